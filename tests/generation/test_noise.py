"""Noise is a function of row, position and token, and it is what it is called."""

from __future__ import annotations

from random import Random

import pytest
import torch
from scipy.stats import chisquare, kstest

from harness.config.schema import SamplingConfig
from harness.generation.chain import SamplerChain
from harness.generation.noise import NoiseAhead, as_int64, counted, gumbel, mixed, noisy, row_key, to_uniform, uniform
from harness.generation.row_state import RowState

pytestmark = pytest.mark.usefixtures("one_torch_thread")
P = torch.tensor([0.40, 0.25, 0.15, 0.10, 0.05, 0.03, 0.015, 0.005])
DRAWS = 100_000


def test_splitmix64() -> None:
    """The reference implementation's first outputs for seed 1234567: it counts first, and has no mixed key."""
    counters = torch.tensor([1, 2, 3]) * as_int64([0x9E3779B97F4A7C15]) + 1234567
    assert [bits % 2**64 for bits in mixed(counters).tolist()] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_row_keys() -> None:
    keys = [row_key(seed, id, draw) for seed in range(3) for id in ("a", "a1", "ä", "") for draw in (0, 1, 11)]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**64 for key in keys)
    assert row_key(0, "prompt", 0) == 4360250266867619809


def test_pairs_have_the_noise_that_they_have_in_the_whole_vocabulary() -> None:
    keys, positions = as_int64([row_key(0, str(row), 0) for row in range(5)]), torch.tensor([0, 1, 2, 500, 0])
    whole = gumbel(keys[:, None], positions[:, None], torch.arange(1000))
    rows, tokens = torch.tensor([4, 0, 3, 3]), torch.tensor([999, 0, 17, 18])
    assert torch.equal(whole[rows, tokens], gumbel(keys[rows], positions[rows], tokens))
    assert torch.equal(whole[3], gumbel(keys[3], positions[3], torch.arange(1000)))


def test_distributions() -> None:
    keys, positions = torch.arange(300)[:, None], torch.arange(300)
    assert kstest(uniform(keys, positions, 1).flatten().numpy(), "uniform").pvalue > 1e-3
    assert kstest(gumbel(keys, positions[:1], torch.arange(300)).flatten().numpy(), "gumbel_r").pvalue > 1e-3
    streams = torch.stack(
        [uniform(keys, positions, stream).flatten() for stream in (1, 2)] + [to_uniform(counted(keys, positions)).flatten()]
    )
    assert (torch.corrcoef(streams) - torch.eye(3)).abs().max() < 4 / 300


def test_the_tail_is_fine() -> None:
    """Near 1, uniform numbers of float32 are so coarse that some of the largest values would be equal."""
    largest = gumbel(torch.tensor(0), torch.tensor(0), torch.arange(2_000_000)).topk(100).values
    assert len(set(largest.tolist())) == 100
    assert 12 < largest[0] < 25


@pytest.mark.parametrize(("key", "position", "token"), [(0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0), (2**63, 0, 0)])
def test_nothing_is_special_about_zero(key: int, position: int, token: int) -> None:
    noise = gumbel(as_int64([key]), torch.tensor([position]), torch.tensor([token]))
    assert -3 < noise.item() < 8
    assert 0.001 < uniform(as_int64([key]), torch.tensor([position]), 1).item() < 0.999


@pytest.mark.parametrize(
    "parameters", [{}, {"temperature": 2.0}, {"top_k": 3}, {"min_p": 0.12}, {"adaptive_target": 0.3}, {"smoothing_factor": 0.2}], ids=str
)
def test_draws_follow_the_kept_distribution(parameters: dict[str, float]) -> None:
    kept = SamplerChain(SamplingConfig(**parameters)).filter(P.log()[None], [RowState(key=0, history=[], prompt_tokens=0)])
    keys = as_int64([row_key(0, str(row), 0) for row in range(1000)]).repeat(DRAWS // 1000)
    positions = torch.arange(DRAWS // 1000).repeat_interleave(1000)
    drawn = noisy(kept.expand(DRAWS, -1), keys, positions).argmax(dim=-1)
    expected = kept[0].double().softmax(dim=-1)
    counts = torch.bincount(drawn, minlength=8)
    assert counts[expected == 0].sum() == 0
    assert chisquare(counts[expected > 0].numpy(), (DRAWS * expected[expected > 0]).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0, 30.0])
def test_many_tokens_are_drawn_as_all_at_once(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, keys, positions = scale * torch.randn(12, 20_000, generator=generator) - 50, torch.arange(12), torch.arange(12) % 5
    logits[:, ::3] = -torch.inf
    noise = gumbel(keys[:, None], positions[:, None], torch.arange(20_000))
    assert torch.equal(noisy(logits, keys, positions).argmax(dim=-1), (logits + noise).argmax(dim=-1))


@pytest.mark.parametrize("some", [3, 10, 5_000])
def test_of_equal_ones_the_first_is_drawn(some: int) -> None:
    """Else a text could depend on how many tokens are looked at at a time."""
    logits = torch.full((30, 5_000), 1e9)  # so high that no noise is left in float32
    logits[:, :2], logits[:, 2 + some :] = 0, -torch.inf
    logits[0, :] = 0
    logits[0, 4000:] = 1e9
    assert noisy(logits, torch.arange(30), torch.arange(30)).argmax(dim=-1).tolist() == [4000] + [2] * 29


def test_few_tokens_are_drawn_as_they_are_among_all() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4000, generator=generator)
    few = torch.where(logits > 1.5, logits, -torch.inf)
    keys, positions = torch.arange(50), torch.arange(50) % 3
    noise = gumbel(keys[:, None], positions[:, None], torch.arange(4000))
    assert torch.equal(noisy(few, keys, positions).argmax(dim=-1), (few + noise).argmax(dim=-1))


@pytest.mark.parametrize("vocabulary", [7, 512, 2**15, 2**17])
def test_noise_made_ahead_is_that_of_its_position(vocabulary: int) -> None:
    ahead, logits = NoiseAhead(), torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(0))
    logits[:, ::3] = -torch.inf
    random = Random(vocabulary)
    keys, positions = [1, 2, 3], [0, 5, 9]
    for _ in range(60):
        count = len(keys)
        expected = noisy(logits[:count], as_int64(keys), torch.tensor(positions))
        assert torch.equal(ahead.add(logits[:count], keys, positions), expected)
        match random.choice(["on", "on", "on", "on", "replaced", "again", "fewer"]):
            case "replaced":
                keys, positions = [*keys[1:], random.randrange(2**64)], [*(position + 1 for position in positions[1:]), 0]
            case "fewer" if count > 1:
                keys, positions = keys[1:], [position + 1 for position in positions[1:]]
            case "again":
                positions = [0] * count
            case _:
                positions = [position + 1 for position in positions]
