"""Seed noise: measured by a confirmation, or by runs that differ in their seed alone."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.config.nested import flat
from harness.runs.paired import CONFIDENCE
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.student_t import t_quantile


@dataclass(frozen=True)
class SeedNoise:
    """Seed noise in the objective."""

    sd: float
    """Standard deviation of one configuration over seeds."""
    least_difference: float
    """Smaller differences between two single runs are within noise."""
    source: str
    """What it was measured on."""


def noise_of_confirmation(study: StudyRecord) -> SeedNoise | None:
    """From the paired differences of the study's confirmation; None without one."""
    found = study.confirmation.noise if study.confirmation else None
    if found is None or study.confirmation is None:
        return None
    return SeedNoise(found.sd, found.least_difference, f"the confirmation of {study.name}, {len(study.confirmation.seeds)} seeds")


def noise_of_repeats(runs: Sequence[RunRecord], metric: str) -> SeedNoise | None:
    """From complete single runs that differ in `seed` alone; None without two of them."""
    groups: dict[str, dict[int, float]] = {}
    for run in runs:
        value = run.result.metrics.get(metric)
        if run.state == "complete" and value is not None and math.isfinite(value) and "seed" in run.config:
            groups.setdefault(_without_seed(run), {})[run.config["seed"]] = value
    repeated = [list(values.values()) for values in groups.values() if len(values) > 1]
    if not repeated:
        return None
    degrees = sum(len(values) - 1 for values in repeated)
    sd = math.sqrt(sum(statistics.variance(values) * (len(values) - 1) for values in repeated) / degrees)
    # The difference of two runs has twice the variance of one.
    least = t_quantile((1 + CONFIDENCE) / 2, degrees) * math.sqrt(2) * sd
    return SeedNoise(sd, least, f"{sum(map(len, repeated))} runs that differ in their seed alone")


def _without_seed(run: RunRecord) -> str:
    return json.dumps({key: value for key, value in flat(run.config) if key != "seed"}, sort_keys=True, default=str)
