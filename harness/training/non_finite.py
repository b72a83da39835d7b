"""What becomes of a step whose loss or gradients are not finite."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from harness.training.run_errors import NonFiniteLossError

if TYPE_CHECKING:
    from harness.data.training_data import TrainingData

log = logging.getLogger(__name__)
SHOWN_DOCUMENTS = 8


class UpdateSkippedError(Exception):
    """Leaves an optimizer's step before it changes anything. Caught by the module; no failure."""


class NonFiniteSteps:
    """Judges every update before it is made (trainer.non_finite).

    stop: the first step that was not finite is remembered on the device, since to ask for it there would make every step wait;
    `refuse` raises when it is asked to, and no checkpoint may be saved before. skip: has to ask, and leaves the update out.
    """

    def __init__(self, policy: Literal["stop", "skip"], max_skipped_steps: int) -> None:
        self.policy, self.max_skipped_steps = policy, max_skipped_steps
        self.skipped_steps = 0
        self._skipped_in_a_row = 0
        self._first: Tensor | None = None
        """float32 [3], on the device: step, loss and gradient norm of the first step that was not finite; step 0 while there was none."""

    def judge(
        self, step: int, loss: Tensor, gradient_norm: Tensor, *, agree: Callable[[Tensor], Tensor], describe: Callable[[], str]
    ) -> None:
        """Look at the loss and the gradient norm of step `step` (1-based), each float [], before its update.

        agree: makes of a flag, float32 [], the smallest of all ranks: what is decided here is decided by it alone.
        describe: says what the batch was made of.
        Raises UpdateSkippedError when the update is to be left out, NonFiniteLossError when too many in a row were.
        """
        finite = agree((loss.isfinite() & gradient_norm.isfinite()).float()) > 0
        now = torch.stack([torch.full_like(loss, step), loss, gradient_norm.to(loss)])
        if self.policy == "stop":
            before = torch.zeros_like(now) if self._first is None else self._first
            self._first = torch.where((before[0] > 0) | finite, before, now)
            return
        if bool(finite):
            self._skipped_in_a_row = 0
            return
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        problem = _problem(*now.tolist())
        if self._skipped_in_a_row > self.max_skipped_steps:
            limit = f"{self.max_skipped_steps} steps in a row were skipped already (trainer.max_skipped_steps)"
            raise NonFiniteLossError(f"{problem}; {limit}; {describe()}")
        log.warning("%s: skipped; %s", problem, describe())
        raise UpdateSkippedError

    def refuse(self, rate: float, describe: Callable[[int], str]) -> None:
        """Raise NonFiniteLossError if a step was not finite and must stop the run. Waits for the device.

        describe: says what the batch of a step (1-based) was made of.
        """
        if self._first is not None and self._first[0] > 0:
            step, loss, gradient_norm = self._first.tolist()
            raise NonFiniteLossError(f"{_problem(step, loss, gradient_norm)} (learning rate {rate:.3g}); {describe(int(step))}")

    def refuse_run(self, steps: int, rate: float) -> None:
        """Raise NonFiniteLossError if a run of `steps` steps, at its end, made less than half of its updates.

        Only then, since two runs that share a beginning may differ in length.
        """
        if 2 * self.skipped_steps > steps:
            raise NonFiniteLossError(
                f"{self.skipped_steps} of the run's {steps} steps were skipped, more than half: their loss or gradients were not finite "
                f"(learning rate {rate:.3g} in the last step)"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"skipped_steps": self.skipped_steps, "in_a_row": self._skipped_in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped_steps, self._skipped_in_a_row = state["skipped_steps"], state["in_a_row"]


def _problem(step: float, loss: float, gradient_norm: float) -> str:
    if not math.isfinite(loss):
        return f"the loss of step {step:.0f} is {loss}"
    if not math.isfinite(gradient_norm):
        return f"the gradient norm of step {step:.0f} is {gradient_norm}"
    return f"step {step:.0f} is not finite on another rank"


def describe_rows(data: TrainingData, start: int, stop: int) -> str:
    """Rows start … stop - 1 of the run in words: their numbers, and the documents in them by source, both counted from 1."""
    parts = []
    for source, documents in data.documents_at(start, stop).items():
        shown = ", ".join(str(document + 1) for document in documents[:SHOWN_DOCUMENTS].tolist())
        more = f" and {len(documents) - SHOWN_DOCUMENTS} more" if len(documents) > SHOWN_DOCUMENTS else ""
        parts.append(f"data.sources.{source} documents {shown}{more}")
    return f"its batch: rows {start + 1} to {stop} of the run, {'; '.join(parts)}"
