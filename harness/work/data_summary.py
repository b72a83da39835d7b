"""What `harness data` says of the data of a configuration: plain values, so that they can be kept beside the cache and said again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.evaluation.kinds import KINDS

if TYPE_CHECKING:
    from harness.work.prepare import Prepared


def summary_of(prepared: Prepared) -> dict[str, Any]:
    """The document of `harness data --json`: tokens, rows and more of one epoch, of each source and evaluation set, and of the run."""
    training, plan, epochs = prepared.training, prepared.plan, prepared.epochs
    evaluation = {
        kind.section: {
            part.name: {**part.summary(), "fingerprint": part.fingerprint} for part in prepared.evaluation if part.section == kind.section
        }
        for kind in KINDS
    }
    further: dict[str, Any] = {"teacher": None, "reference": None, **prepared.from_objective}
    if training is None:
        tokens = sum(part.tokens_read for part in prepared.evaluation)
        return {"tokens": tokens, "sources": {}, **evaluation, "run": None, **further}
    sources = {name: {**asdict(part), "epochs": epochs.get(name)} for name, part in training.statistics().items()}
    run = {"steps": plan.steps, "tokens": plan.tokens_after(plan.steps), "rows_per_step": plan.batch_size.full} if plan else None
    total = {**asdict(training.total()), "fingerprint": training.fingerprint}
    return {**total, "sources": sources, **evaluation, "run": run, **further}
