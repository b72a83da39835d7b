"""Judging a repeated run: the same to the last bit, the same within seed noise, or different."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.runs.metrics import Row
from harness.runs.paired import CONFIDENCE
from harness.runs.result import Result
from harness.runs.student_t import t_quantile

Verdict = Literal["exact", "within_noise", "unknown", "differs"]
"""unknown: the bits differ, as they may where hardware, versions or the seed do, and it is not known how far seeds alone move a run."""
NOT_OF_THE_MODEL = ("tokens_per_second", "evaluation_seconds")
"""Logged values that depend on the machine's speed."""


@dataclass(frozen=True)
class Original:
    """What is run again."""

    name: str
    seed: int
    result: Result
    """Its fingerprints, versions, hardware, metrics."""
    rows: Sequence[Row]
    metric: str | None
    """What is compared where the bits differ."""
    mean: float | None
    """Over the seeds of a confirmation."""
    seeds: int
    sd: float | None
    """Of one configuration over seeds; None where it is unknown."""
    degrees: float


@dataclass(frozen=True)
class Difference:
    """A difference that may change the last bits, or more."""

    what: str
    there: str
    here: str
    matters: Literal["input", "version", "hardware", "configuration"]


def differences(there: Result, here: Result) -> Iterator[Difference]:
    """In what is trained on, the versions, the hardware; most telling first."""
    for name, fingerprint in there.fingerprints.items():
        if here.fingerprints.get(name) != fingerprint:
            yield Difference(name, fingerprint[:16], here.fingerprints.get(name, "absent")[:16], "input")
    for name, version in there.versions.items():
        if here.versions.get(name) != version:
            yield Difference(name, version, here.versions.get(name, "absent"), "version")
    for part in ("cpu", "gpus", "threads"):
        mine, its = here.hardware.get(part), there.hardware.get(part)
        if its is not None and mine != its:
            yield Difference(part, _shown(its), _shown(mine), "hardware")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Rows:
    """How the rows of metrics compare."""

    steps: int
    """Rows that both have."""
    values: int
    """Values compared in them."""
    first_difference: str | None
    """The first value that differs, in words; None: none does."""


def compare_rows(there: Sequence[Row], here: Sequence[Row]) -> Rows:
    """Compare value by value, to the last bit, without what depends on a machine's speed."""
    mine = {row["step"]: row for row in here}
    steps = values = 0
    first = None
    for row in there:
        other = mine.get(row["step"])
        if other is None:
            first = first or f"step {row['step']} was not logged"
            continue
        steps += 1
        for key in (key for key in row if key not in NOT_OF_THE_MODEL and key != "step"):
            values += 1
            if row[key] != other.get(key) and first is None:
                first = f"step {row['step']}, {key}: {row[key]} there, {other.get(key)} here"
    return Rows(steps, values, first if there else "there are no rows to compare with")


@dataclass(frozen=True)
class Reproduction:
    """How a repeated run compares with the original."""

    verdict: Verdict
    rows: Rows
    metric: str | None
    expected: float | None
    """The original's value; of another seed the mean over the seeds of the confirmation."""
    found: float | None
    reach: float | None
    """How far the seed alone moves one run from what is expected, with the usual confidence; None where it is unknown."""
    why: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "difference": None if self.expected is None or self.found is None else self.found - self.expected}


def compare(
    original: Original, *, seed: int, metrics: Mapping[str, float], rows: Sequence[Row], differences: Sequence[Difference] = ()
) -> Reproduction:
    """Judge a run of the original's configuration with `seed`. differences: what differs here.

    A run with the original's own seed is compared with it: two runs of one configuration differ by no more than t·sd·√2. With another seed
    it is compared with the mean of the confirmation over n seeds: t·sd·√(1 + 1/n), the prediction interval of one further run.
    """
    compared, metric = compare_rows(original.rows, rows), original.metric
    own = seed == original.seed
    found = metrics.get(metric) if metric else None
    expected = original.mean if not own and original.mean is not None else original.result.metrics.get(metric or "")
    against = "the original" if own or original.mean is None else f"the mean over {original.seeds} seeds"
    if own and compared.first_difference is None:
        why = f"all {compared.values} values in {compared.steps} rows are the same to the last bit"
        return Reproduction("exact", compared, metric, expected, found, None, why)
    if expected is None or found is None:
        return Reproduction("differs", compared, metric, expected, found, None, f"{metric} is not known of both")
    difference = f"{metric} is {found:.6g}, {found - expected:+.2g} from {against}"
    if original.sd is None:
        how = "--seeds N measures it here, `harness confirm` of its study for whoever gets the recipe"
        why = f"{difference}; it was not confirmed, so it is unknown how much of that is seed noise ({how})"
        # The same configuration with the same seed need not give the same bits elsewhere, and on GPUs, whose sums vary.
        may_vary = not own or bool(differences or original.result.hardware.get("gpus"))
        unknown = may_vary and _is_same(differences)
        verdict: Verdict = "unknown" if unknown else "differs"
        return Reproduction(verdict, compared, metric, expected, found, None, why)
    wide = math.sqrt(2) if against == "the original" else math.sqrt(1 + 1 / original.seeds)
    reach = t_quantile((1 + CONFIDENCE) / 2, int(original.degrees)) * original.sd * wide
    within = abs(found - expected) <= reach
    why = f"{difference}; seeds alone move one run by up to {reach:.2g} ({CONFIDENCE:.0%})"
    return Reproduction("within_noise" if within else "differs", compared, metric, expected, found, reach, why)


def _is_same(differences: Sequence[Difference]) -> bool:
    """Whether it is the original's configuration, but for the seed, on the original's files."""
    return not any(one.matters in ("input", "configuration") and one.what != "seed" for one in differences)
