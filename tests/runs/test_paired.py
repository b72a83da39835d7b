"""What seeds say of candidates, against scipy."""

from __future__ import annotations

import random
import statistics

import pytest

from harness.runs.paired import bootstrap_interval, mean_interval, probabilities_of_lowest, seed_noise
from harness.runs.student_t import t_probability, t_quantile

stats = pytest.importorskip("scipy.stats")
np = pytest.importorskip("numpy")

TABLE = [[2.31, 2.35, 2.29, 2.33], [2.34, 2.36, 2.33, 2.35], [2.40, 2.41, 2.36, 2.45]]


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30, 101])
def test_students_t_is_scipys(degrees: int) -> None:
    for t in (-7.0, -0.3, 0.0, 0.2, 3.0, 40.0):
        assert t_probability(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), abs=1e-13)
    for probability in (0.01, 0.5, 0.9, 0.975, 0.9995):
        assert t_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-9, abs=1e-12)


def test_the_interval_of_a_mean_is_scipys() -> None:
    found = mean_interval(TABLE[0])
    low, high = stats.t.interval(0.95, 3, loc=np.mean(TABLE[0]), scale=stats.sem(TABLE[0]))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.sd == pytest.approx(np.std(TABLE[0], ddof=1))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_of_two_candidates_the_probability_is_that_of_the_paired_t_test(seeds: int) -> None:
    generator = random.Random(seeds)
    one = [generator.gauss(2.0, 0.5) for _ in range(seeds)]
    other = [value + generator.gauss(0.1, 0.2) for value in one]
    expected = 1 - stats.ttest_rel(one, other, alternative="less").pvalue
    assert probabilities_of_lowest([one, other]) == pytest.approx([expected, 1 - expected], abs=1e-6)


def test_of_three_candidates_it_is_that_of_the_multivariate_t() -> None:
    table, degrees = np.array(TABLE), 6
    residuals = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    error = (residuals**2).sum() / degrees / 4
    for index, found in enumerate(probabilities_of_lowest(TABLE)):
        others = [place for place in range(3) if place != index]
        differences = table.mean(1)[index] - table.mean(1)[others]
        expected = stats.multivariate_t(loc=differences, shape=error * (np.eye(2) + 1), df=degrees, seed=0).cdf([0, 0], maxpts=10**6)
        assert found == pytest.approx(expected, abs=1e-4)


def test_the_noise_is_the_residual_of_candidate_plus_seed() -> None:
    noise = seed_noise(TABLE)
    differences = [a - b for a, b in zip(TABLE[0], TABLE[1], strict=True)]
    of_two = seed_noise(TABLE[:2])
    assert of_two.paired_sd == pytest.approx(statistics.stdev(differences)), "for two candidates: the sd of their paired differences"
    assert of_two.least_difference == pytest.approx(stats.t.ppf(0.975, 3) * statistics.stdev(differences))
    assert noise.sd == pytest.approx(np.sqrt(np.var(TABLE, axis=1, ddof=1).mean()))
    assert noise.degrees == 6
    assert seed_noise(TABLE[:1]).paired_sd == pytest.approx(2**0.5 * noise_of_one())


def noise_of_one() -> float:
    return statistics.stdev(TABLE[0])


def test_what_a_seed_does_to_all_candidates_changes_nothing() -> None:
    shifted = [[value + shift for value, shift in zip(row, (5.0, -1.0, 0.5, 0.0), strict=True)] for row in TABLE]
    assert probabilities_of_lowest(shifted) == pytest.approx(probabilities_of_lowest(TABLE), abs=1e-9)
    assert seed_noise(shifted).paired_sd == pytest.approx(seed_noise(TABLE).paired_sd)


@pytest.mark.parametrize("seed", range(20))
def test_shifted_candidates_are_ordered_by_their_shift_and_the_more_surely_the_larger_it_is(seed: int) -> None:
    generator = random.Random(seed)
    candidates, seeds = generator.randint(2, 6), generator.randint(2, 8)
    noise = [[generator.gauss(0, 0.1) for _ in range(seeds)] for _ in range(candidates)]
    centred = [[value - statistics.fmean(row) for value in row] for row in noise]
    before = 1 / candidates
    for gap in (0.0, 0.05, 0.2, 1.0):
        found = probabilities_of_lowest([[value + gap * place for value in row] for place, row in enumerate(centred)])
        assert sum(found) == pytest.approx(1)
        assert found == sorted(found, reverse=True) or gap == 0.0
        assert found[0] >= before - 1e-9
        before = found[0]


def test_without_noise_the_lowest_is_certain_and_equals_share() -> None:
    assert probabilities_of_lowest([[2.0, 3.0], [2.5, 3.5]]) == [1.0, 0.0]
    assert probabilities_of_lowest([[2.0, 3.0], [2.0, 3.0], [4.0, 5.0]]) == [0.5, 0.5, 0.0]


def test_a_bootstrap_over_prompts_has_its_mean_and_covers_the_truth() -> None:
    found = bootstrap_interval([1.0] * 30 + [0.0] * 70)
    assert found.mean == 0.3
    # The standard error of a share is sqrt(p (1 - p) / n) = 0.0458; 95 % lie within about 1.96 of it.
    assert (found.low, found.high) == pytest.approx((0.21, 0.39), abs=0.015)
    assert bootstrap_interval([1.0] * 30 + [0.0] * 70) == found, "the same whoever asks"
    covered = 0
    drawn = random.Random(1)
    for trial in range(100):
        interval = bootstrap_interval([float(drawn.random() < 0.3) for _ in range(60)], seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 88 <= covered <= 99
