"""What happens between two optimizer steps: evaluate, log, save, stop. One callback, because the order matters."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from harness.models.checkpoint_files import checkpoint_path
from harness.optim.averages import in_place_of_weights
from harness.runs.directory import RunDirectory
from harness.runs.metrics import Row
from harness.training import ranks
from harness.training.callbacks import EarlyStopping
from harness.training.checkpoints import save
from harness.training.evaluator import Evaluator
from harness.training.loggers import MetricLogger, log_row
from harness.training.module import TrainingModule
from harness.training.random_state import random_state, restore_random_state, seed_random_state
from harness.training.run_errors import NonFiniteLossError
from harness.training.stop_flag import StopFlag

if TYPE_CHECKING:
    from harness.evaluation.evaluation_set import EvaluationSet
    from harness.training.trunk_path import TrunkPath

log = logging.getLogger("harness")


@dataclass(eq=False)
class StepEnd(Callback):
    """Evaluates, logs, saves and stops between steps.

    A row is written only when everything of its step is known, so that there is one row a step; a checkpoint follows its row, so that a
    resumed run never lacks one.
    """

    run: RunDirectory
    evaluator: Evaluator
    stop: StopFlag
    loggers: Sequence[MetricLogger]
    """Every row is logged to them."""
    trunk_path: TrunkPath | None
    """Where states are stored for other runs."""
    shared_rows: Sequence[Row]
    """What the run logged whose trunk this one goes on from."""
    watchers: Sequence[EarlyStopping] = ()
    """They look at each row, and may end the run."""
    stopped: bool = field(default=False, init=False)
    """Whether the run was asked to stop before its end, and did."""
    _row: Row = field(default_factory=dict, init=False)
    """The last one."""
    _measured: dict[str, int] = field(default_factory=dict, init=False)
    """After which step each evaluation set was last measured, by its key."""
    _random_states: list[dict[str, Any]] = field(default_factory=list, init=False)
    """Of the ranks that the run had when it was saved."""
    _clock: float = field(default_factory=time.perf_counter, init=False)
    _clock_step: int = field(default=0, init=False)

    # Its part of a checkpoint.

    def state_dict(self) -> dict[str, Any]:
        return {"random": ranks.gathered(random_state()), "initial": self.evaluator.initial}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "initial_loss" in state_dict:  # of a harness before December 2026
            self.evaluator.initial = {f"data.validation.{name}": {"loss": loss} for name, loss in state_dict["initial_loss"].items()}
        else:
            self.evaluator.initial = state_dict["initial"]
        self._random_states = state_dict["random"]

    # Lightning's hooks.

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self.stop.install()
        # Asked before its first step: by a signal that Lightning's handlers saw too, so that going on would end in its own exception.
        if any(ranks.anywhere(self.stop.is_set)):
            self._stop(trainer)
            return
        for row in self.shared_rows:
            log_row(self.loggers, row)
        if trainer.global_step == 0:
            self._write(trainer, {"step": 0, "tokens": 0, **self._evaluate(trainer, module, is_last=False)})
            for line in self.evaluator.forecast(module.plan.steps) if ranks.is_main() else ():
                log.info(line)
        # Only now: what was drawn to make weights, loaders and evaluations does not reach into training.
        if ranks.rank() < len(self._random_states):
            restore_random_state(self._random_states[ranks.rank()])
        else:
            seed_random_state(module.config.seed, rank=ranks.rank(), step=trainer.global_step)
        self._clock, self._clock_step = time.perf_counter(), trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int) -> None:
        assert isinstance(module, TrainingModule)
        if (batch_index + 1) % module.plan.accumulation:
            return
        step, plan, settings = trainer.global_step, module.plan, module.config.trainer
        # Only rank 0 knows of trunks; a signal may reach any.
        stopping, branching = ranks.anywhere(self.stop.is_set, self.trunk_path is not None and step in self.trunk_path.branch_steps)
        ends = step == plan.steps
        saving = settings.final_checkpoint != "none" if ends else stopping or _is_due(settings.checkpoint_every_steps, step)
        saving = saving or branching
        # Reading the loss of every step costs nothing on a CPU; elsewhere it would wait for the device.
        if self._is_logged(module, step) or saving or module.device.type == "cpu":
            module.non_finite.refuse(_rate(trainer), module.describe_batch)
        if ends:
            module.non_finite.refuse_run(plan.steps, _rate(trainer))
        if self._is_logged(module, step):
            self._log(trainer, module)
        if saving:
            self._save(trainer, module, weights_only=ends and settings.final_checkpoint == "weights")
        if branching and self.trunk_path is not None:
            self.trunk_path.store_state(step, checkpoint_path(self.run.checkpoints, step))
        if stopping and step < plan.steps:
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """A run that a callback ends is evaluated and saved where it ends, so that what is said of it is of its last weights."""
        assert isinstance(module, TrainingModule)
        step, settings = trainer.global_step, module.config.trainer
        if self.stopped or step >= module.plan.steps:
            return
        if self._lacking(step, is_last=True):
            logged = self._row if self._row.get("step") == step else {"step": step, "tokens": module.plan.tokens_after(step)}
            self._write(trainer, {**logged, **self._evaluate(trainer, module, is_last=True)})
        if settings.final_checkpoint != "none":
            self._save(trainer, module, weights_only=settings.final_checkpoint == "weights")

    # The parts.

    def _is_logged(self, module: TrainingModule, step: int) -> bool:
        return step == module.plan.steps or _is_due(module.config.trainer.log_every_steps, step) or self._is_evaluated(module, step)

    def _is_evaluated(self, module: TrainingModule, step: int) -> bool:
        return step == module.plan.steps or _is_due(module.config.trainer.evaluate_every_steps, step)

    def _stop(self, trainer: Trainer) -> None:
        self.stopped = True
        trainer.should_stop = True

    def _log(self, trainer: Trainer, module: TrainingModule) -> None:
        step, plan = trainer.global_step, module.plan
        assert module.gradient_norm is not None, "a step has ended"
        elapsed = time.perf_counter() - self._clock
        row: Row = {
            "step": step,
            "tokens": plan.tokens_after(step),
            "lr": _rate(trainer),
            "train/loss": module.step_loss(),
            "train/gradient_norm": float(module.gradient_norm),
            **module.objective.step_metrics(),
            "tokens_per_second": (plan.tokens_after(step) - plan.tokens_after(self._clock_step)) / elapsed,
        }
        if module.non_finite.policy == "skip":
            row["train/skipped_steps"] = module.non_finite.skipped_steps
        if self._is_evaluated(module, step):
            row.update(self._evaluate(trainer, module, is_last=step == plan.steps))
            self.evaluator.warn_of_share(plan.steps, elapsed / (step - self._clock_step))
        self._write(trainer, row)
        self._clock, self._clock_step = time.perf_counter(), step

    def _lacking(self, step: int, *, is_last: bool) -> list[EvaluationSet]:
        """The sets that are due after this step and were not measured there."""
        return [part for part in self.evaluator.due(step, is_last=is_last) if self._measured.get(part.key) != step]

    def _evaluate(self, trainer: Trainer, module: TrainingModule, *, is_last: bool) -> dict[str, float]:
        """Measured with the weights as they are evaluated: the average of them, where one is kept."""
        step = trainer.global_step
        sets = self._lacking(step, is_last=is_last)
        try:
            with in_place_of_weights(module.evaluated_weights()):
                values = self.evaluator.evaluate(module.model, trainer.precision_plugin.forward_context, step=step, sets=sets)
        except NonFiniteLossError as error:
            rate = f" (learning rate {_rate(trainer):.3g})" if trainer.global_step else ""
            raise NonFiniteLossError(f"{error}{rate}") from None
        self._measured.update((part.key, step) for part in sets)
        if ranks.is_main():
            # Before the row that says that the step is done.
            self.run.generations.append(step, self.evaluator.texts)
            if is_last:
                self.run.documents.append(step, self.evaluator.documents)
        return values

    def _write(self, trainer: Trainer, row: Row) -> None:
        self._row = row
        if ranks.is_main():
            self.run.metrics.append(row)
            log_row(self.loggers, row)
        for watcher in self.watchers:
            watcher.look(trainer, row)

    def _save(self, trainer: Trainer, module: TrainingModule, *, weights_only: bool) -> None:
        began = time.perf_counter()
        # The loss was finite before the update; the update itself may have been broken.
        if any(ranks.anywhere(*(not bool(parameter.isfinite().all()) for parameter in module.parameters()))):
            raise NonFiniteLossError(f"step {trainer.global_step} made weights that are not finite (learning rate {_rate(trainer):.3g})")
        save(trainer, self.run.checkpoints, keep=module.config.trainer.keep_checkpoints, weights_only=weights_only)
        self._clock += time.perf_counter() - began


def _is_due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0


def _rate(trainer: Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])
