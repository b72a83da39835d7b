"""How far seeds scatter a metric, before fresh seeds are known."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from harness.runs.directory import RunDirectory
from harness.runs.record import RunRecord
from harness.runs.result import Result
from harness.runs.trial import Trial
from harness.search.seed_scatter import ASSUMED, UNSEEN, scatters_of
from harness.search.space import parse_space

METRIC = "val/general/forgetting"
SPACE = parse_space({"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}})


def searched(low: float, high: float, noise: float) -> list[RunRecord]:
    """Thirty trials between two places of the range, and what they forget: a smooth curve of the place, and noise."""
    generator, found = random.Random(0), []
    for number in range(30):
        place = low + (high - low) * number / 29
        params = {"optim.lr": 10 ** (3 * place - 4)}
        metrics = {METRIC: place**2 + generator.gauss(0, noise)}
        trial = Trial(number=number, params=params, tokens=1)
        found.append(RunRecord(RunDirectory(Path("none")), Result(state="complete", metrics=metrics), "study", trial, "complete"))
    return found


def test_a_search_that_has_come_to_one_place_knows_its_noise() -> None:
    """Its runs of full length hardly differ; what all of its trials leave unexplained is half of what seeds do."""
    runs = searched(0.0, 1.0, 0.02)
    (scatter,) = scatters_of([METRIC], None, SPACE, runs, runs[14:16]).values()
    assert scatter == pytest.approx(math.sqrt(UNSEEN) * 0.02, rel=0.4)


def test_where_nothing_is_left_unexplained_it_is_a_share_of_what_full_runs_differ_by() -> None:
    runs = searched(0.0, 1.0, 0.0)
    (scatter,) = scatters_of([METRIC], None, SPACE, runs, runs).values()
    values = sorted(run.result.metrics[METRIC] for run in runs)
    centre = (values[14] + values[15]) / 2
    apart = sorted(abs(value - centre) for value in values)
    assert scatter == pytest.approx(ASSUMED * 1.4826 * (apart[14] + apart[15]) / 2)


def test_of_too_few_trials_nothing_is_known() -> None:
    runs = searched(0.0, 1.0, 0.02)[:2]
    assert scatters_of([METRIC], None, SPACE, runs, []) == {METRIC: 0.0}
