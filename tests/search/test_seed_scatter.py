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


def ended(number: int, value: float, rung: int | None = None, **params: float) -> RunRecord:
    """A complete trial that forgets so much."""
    trial = Trial(number=number, params=dict(params), tokens=1, rung=rung)
    return RunRecord(RunDirectory(Path("none")), Result(state="complete", metrics={METRIC: value}), "study", trial, "complete")


def searched(low: float, high: float, noise: float) -> list[RunRecord]:
    """Thirty trials between two places of the range, and what they forget: a smooth curve of the place, and noise."""
    generator, found = random.Random(0), []
    for number in range(30):
        place = low + (high - low) * number / 29
        found.append(ended(number, place**2 + generator.gauss(0, noise), **{"optim.lr": 10 ** (3 * place - 4)}))
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


@pytest.mark.parametrize("place", ["at the end", "anywhere"])
@pytest.mark.parametrize("diverged", [1, 2])
@pytest.mark.parametrize("count", [6, 12, 25])
def test_runs_that_diverged_do_not_make_the_noise_theirs(count: int, diverged: int, place: str) -> None:
    """Forgetting rises from 0 to 0.3, and two runs of twenty-five forget everything: the others are as sure as without them."""
    generator = random.Random(count)
    places = [number / (count - 1) for number in range(count)]
    bad = set(places[-diverged:] if place == "at the end" else generator.sample(places, diverged))
    generator.shuffle(places)
    runs = [
        ended(number, 4.5 + at / 3 if at in bad else 0.3 * at**2 + generator.gauss(0, 0.005), **{"optim.lr": 10 ** (3 * at - 4)})
        for number, at in enumerate(places)
    ]
    (scatter,) = scatters_of([METRIC], None, SPACE, runs, runs).values()
    sane = [run for run in runs if run.result.metrics[METRIC] < 1]
    (expected,) = scatters_of([METRIC], None, SPACE, sane, sane).values()
    assert expected / 3 < scatter < 3 * expected


def test_runs_of_another_length_are_not_taken_for_diverged() -> None:
    """Most runs are short and hardly forget; the few of full length forget more, and are no outliers."""
    generator = random.Random(0)
    short = [ended(number, 0.01 + generator.gauss(0, 0.001), 0, **{"optim.lr": 1e-3}) for number in range(12)]
    full = [ended(12 + number, 0.2 + generator.gauss(0, 0.02), 1, **{"optim.lr": 1e-3}) for number in range(6)]
    alone, both = (scatters_of([METRIC], None, SPACE, runs, []) for runs in (short, [*short, *full]))
    assert both[METRIC] > 3 * alone[METRIC]


def test_runs_that_differ_by_seeds_alone_scatter_as_they_do() -> None:
    """There is nothing that a model could explain but lengths."""
    space = parse_space({"seed": {"low": 0, "high": 9}})
    runs = [
        ended(number, 0.1 * rung + value, rung, seed=number)
        for number, (rung, value) in enumerate(zip([0, 0, 1, 1], [1, 3, 2, 6], strict=True))
    ]
    assert scatters_of([METRIC], None, space, runs[:2], []) == {METRIC: 0.0}
    (scatter,) = scatters_of([METRIC], None, space, runs, []).values()
    assert scatter == pytest.approx(math.sqrt(UNSEEN * (2 + 8) / 2))
