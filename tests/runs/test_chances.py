"""How likely a bound holds with a fresh seed: golden values, and whether what is said comes true."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student

from harness.runs.chances import Spread, chance_of_holding, probability_of_meeting, spread_over_seeds, with_reserve
from harness.runs.constraints import holds
from harness.runs.student_t import MANY, NORMAL, noncentral_t_probability, noncentrality

SPREAD = Spread(sd=0.02, seeds=3, degrees=4)


def test_the_chance_is_that_of_the_next_value_of_a_normal_sample() -> None:
    found = chance_of_holding({"max": 0.25}, 0.21, SPREAD)
    assert found.mean == pytest.approx(student.cdf(0.04 / (0.02 * math.sqrt(4 / 3)), 4))
    assert found.mean == pytest.approx(0.9209, abs=1e-4)
    assert found.low < found.mean < found.high


@pytest.mark.parametrize(("seeds", "factor"), [(3, 6.155), (10, 2.355)])
def test_the_interval_is_that_of_one_sided_tolerance_limits(seeds: int, factor: float) -> None:
    """Factors for 90 % of a population with a confidence of 95 % (Natrella, Experimental Statistics, NBS Handbook 91, table A-7)."""
    sample = Spread(sd=1.0, seeds=seeds, degrees=seeds - 1)
    root = math.sqrt(seeds)
    assert NORMAL.cdf(noncentrality(factor * root, seeds - 1, 0.95) / root) == pytest.approx(0.9, abs=1e-4)
    found = chance_of_holding({"max": 0.0}, -factor, sample)
    assert found.low < 0.9 < found.mean < found.high


@pytest.mark.parametrize("end", ["low", "high"])
def test_the_ends_of_the_interval_are_shares_that_are_as_likely_to_be_beyond_as_is_said(end: str) -> None:
    spread = Spread(sd=0.02, seeds=3, degrees=6)
    share = getattr(chance_of_holding({"max": 0.25}, 0.21, spread), end)
    root = math.sqrt(3)
    beyond = nct.cdf(0.04 / 0.02 * root, spread.cautious_degrees, NORMAL.inv_cdf(share) * root)
    assert spread.cautious_degrees == 3
    assert beyond == pytest.approx(0.975 if end == "low" else 0.025, abs=1e-6)


def test_what_lies_far_within_by_three_seeds_is_nearly_sure() -> None:
    found = chance_of_holding({"max": 1.0}, 0.58, Spread(sd=0.03, seeds=3, degrees=2))
    assert found.low == pytest.approx(NORMAL.cdf(nct_shift(14.0, 3, 2, 0.975)))
    assert found.low > 0.97


def nct_shift(score: float, seeds: int, degrees: int, probability: float) -> float:
    """In deviations, by another library."""
    root = math.sqrt(seeds)
    found: float = brentq(lambda shift: nct.cdf(score * root, degrees, shift * root) - probability, -5, 20)
    return found


@pytest.mark.parametrize("degrees", [1, 2, 3, 8, 60, 2000])
@pytest.mark.parametrize("t", [-0.5, 0.0, 0.001, 0.3, 1.0, 5.0, 100.0])
@pytest.mark.parametrize("shift", [-9.0, -1.0, 0.0, 0.5, 6.0])
def test_the_noncentral_t_is_that_of_another_library(degrees: int, t: float, shift: float) -> None:
    accuracy = 1e-6 if degrees <= MANY else 5e-3
    assert noncentral_t_probability(t, degrees, shift) == pytest.approx(nct.cdf(t, degrees, shift), abs=accuracy)


def test_the_other_side_and_both() -> None:
    above = chance_of_holding({"max": 0.25}, 0.21, SPREAD)
    assert chance_of_holding({"min": 0.17}, 0.21, SPREAD).mean == pytest.approx(above.mean)
    both = chance_of_holding({"max": 0.25, "min": 0.17}, 0.21, SPREAD)
    assert both.mean == pytest.approx(2 * above.mean - 1)
    assert chance_of_holding({"max": 0.3, "min": 0.29}, 0.21, SPREAD).mean == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(("mean", "chance"), [(0.24, 1.0), (0.25, 1.0), (0.26, 0.0)])
def test_what_does_not_scatter_is_sure(mean: float, chance: float) -> None:
    found = chance_of_holding({"max": 0.25}, mean, Spread(0.0, 3, 4))
    assert (found.low, found.mean, found.high) == (chance, chance, chance)


@pytest.mark.parametrize("bound", [{"max": 0.25, "chance": 0.9}, {"min": 0.25, "chance": 0.75}])
def test_a_mean_at_the_reserve_has_the_chance_that_is_asked_for(bound: dict[str, float]) -> None:
    reserved = with_reserve(bound, SPREAD)
    (limit,) = reserved.values()
    assert chance_of_holding(bound, limit, SPREAD).mean == pytest.approx(bound["chance"])
    assert holds(reserved, limit)


def test_without_a_chance_nothing_is_reserved() -> None:
    assert with_reserve({"max": 0.25}, SPREAD) == {"max": 0.25}


def test_how_sure_it_is_that_a_mean_lies_within_is_a_one_sample_t_test() -> None:
    expected = student.cdf(0.04 / (0.02 / math.sqrt(3)), 4)
    assert probability_of_meeting({"max": 0.25}, 0.21, SPREAD) == pytest.approx(expected)
    assert probability_of_meeting({"max": 0.25}, 0.25, SPREAD) == pytest.approx(0.5)
    assert probability_of_meeting({"max": 0.25}, 0.26, Spread(0.0, 3, 4)) == 0.0


def test_a_share_of_all_seeds_asks_for_a_distance() -> None:
    """The mean that lies as many deviations within as the share of a normal sample asks for is as likely to meet it as not."""
    bound = {"max": 0.25, "chance": 0.9}
    assert probability_of_meeting(bound, 0.25 - 0.02 * NORMAL.inv_cdf(0.9), SPREAD) == pytest.approx(0.5)
    assert probability_of_meeting(bound, 0.25, SPREAD) < 0.1


def test_candidates_that_seeds_move_together_are_no_more_than_one() -> None:
    alone = [0.1, 0.4, 0.2]
    assert spread_over_seeds([alone]).degrees == 2
    assert spread_over_seeds([alone, [value + 1 for value in alone], [value + 2 for value in alone]]).degrees == 2
    assert spread_over_seeds([alone, [0.4, 0.1, 0.2], [0.2, 0.3, 0.25]]).degrees == 6


@pytest.mark.parametrize("candidates", [1, 3, 8])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("common", [0.0, 0.5, 0.9])
def test_what_is_said_comes_true(candidates: int, seeds: int, common: float) -> None:
    """Of studies whose truth is known: a bound at which 90 % is said holds for 90 % of further seeds, and the interval covers."""
    draw = random.Random(1)
    studies, held, covered = 1500, 0.0, 0
    for _ in range(studies):
        true = [draw.gauss(0, 3) for _ in range(candidates)]
        shared = [draw.gauss(0, math.sqrt(common)) for _ in range(seeds)]
        table = [[mean + shift + draw.gauss(0, math.sqrt(1 - common)) for shift in shared] for mean in true]
        spread, mean = spread_over_seeds(table), statistics.fmean(table[0])
        (reserve,) = with_reserve({"max": 0.0, "chance": 0.9}, spread).values()
        held += NORMAL.cdf(mean - reserve - true[0])
        # Whether chance_of_holding(…).low <= 0.9 <= .high, without looking for the ends.
        score, root = (true[0] + NORMAL.inv_cdf(0.9) - mean) / spread.sd, math.sqrt(seeds)
        covered += 0.025 <= noncentral_t_probability(score * root, spread.cautious_degrees, NORMAL.inv_cdf(0.9) * root) <= 0.975
    # The degrees of freedom are those of an approximation: with two seeds it is on the safe side.
    assert -0.015 < held / studies - 0.9 < 0.025
    assert 0.93 < covered / studies < 0.99
