"""The additive model with gaps: golden values by arithmetic, agreement with the model without gaps, and whether what is said comes true."""

from __future__ import annotations

import random

import pytest

from harness.runs import paired
from harness.runs.additive import adjusted_means, probabilities_of_lowest


def test_means_are_compared_over_the_seeds_that_candidates_have_in_common() -> None:
    """The second one lacks the seed that is bad for all: its own mean, 1.5, would make it the best."""
    first, second = {1: 1.0, 2: 2.0, 3: 9.0}, {1: 1.25, 2: 2.25}
    difference = adjusted_means([second, first])
    assert difference[0] - difference[1] == pytest.approx(0.25)


def test_through_a_third_one_candidates_are_compared_that_have_no_seed_in_common() -> None:
    one, two, bridge = {1: 1.0}, {2: 5.0}, {1: 2.0, 2: 4.0}
    means = adjusted_means([one, two, bridge])
    assert means[0] - means[2] == pytest.approx(-1.0)
    assert means[1] - means[2] == pytest.approx(1.0)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("candidates", [2, 3, 8])
def test_without_gaps_it_says_what_the_other_one_says(candidates: int, seeds: int) -> None:
    generator = random.Random(candidates * seeds)
    table = [[generator.gauss(0.4 * row, 1.0) + 10 * seed for seed in range(seeds)] for row in range(candidates)]
    rows = [dict(enumerate(row)) for row in table]
    assert probabilities_of_lowest(rows) == pytest.approx(paired.probabilities_of_lowest(table), abs=0.02)


def test_what_does_not_scatter_is_sure_and_one_seed_says_nothing() -> None:
    assert probabilities_of_lowest([{1: 1.0, 2: 3.0}, {1: 1.5, 2: 3.5}, {1: 1.0, 2: 3.0}]) == [0.5, 0.0, 0.5]
    assert probabilities_of_lowest([{1: 1.0, 2: 3.0}]) == [1.0]
    assert probabilities_of_lowest([{1: 1.0}, {2: 3.0}]) == [0.5, 0.5]


def test_the_same_rows_get_the_same_answer() -> None:
    rows = [{1: 0.3, 2: 0.1, 3: 0.6}, {1: 0.35, 2: 0.2}, {1: 0.5, 2: 0.2}]
    assert probabilities_of_lowest(rows) == probabilities_of_lowest(rows)


@pytest.mark.slow
def test_with_gaps_what_is_said_comes_true() -> None:
    """Two of three candidates ran over four seeds, one over two; spreads are drawn as evenly as the model takes them."""
    generator, said, true = random.Random(7), [], []
    for _ in range(600):
        spread = generator.choice(paired.SPREADS)
        means = [generator.gauss(0, spread) for _ in range(3)]
        shifts = [generator.gauss(0, 2.0) for _ in range(4)]
        rows = [{seed: means[row] + shifts[seed] + generator.gauss(0, 1.0) for seed in range(2 if row == 2 else 4)} for row in range(3)]
        found = probabilities_of_lowest(rows)
        best = max(range(3), key=found.__getitem__)
        said.append(found[best])
        true.append(means[best] == min(means))
    for low, high in ((0.3, 0.6), (0.6, 0.9), (0.9, 1.01)):
        bin_ = [(chance, came) for chance, came in zip(said, true, strict=True) if low <= chance < high]
        error = (sum(chance * (1 - chance) for chance, _ in bin_)) ** 0.5 / len(bin_)
        assert abs(sum(chance - came for chance, came in bin_)) / len(bin_) < 3 * error
