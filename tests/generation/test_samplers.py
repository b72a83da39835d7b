"""Samplers of tokens: golden values (float64, by arithmetic or from the engines that have them), and what holds for any logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.config.active_samplers import OFF
from harness.config.schema import SamplerName, SamplingConfig
from harness.generation.chain import SamplerChain
from harness.generation.noise import as_int64, noisy
from harness.generation.row_state import RowState
from harness.generation.samplers import prefix
from harness.generation.samplers.adaptive_p import AdaptiveP
from harness.generation.samplers.dry import dry, repetitions, sequence_breakers
from harness.generation.samplers.mirostat import MU, Mirostat
from harness.generation.samplers.penalties import penalties
from harness.generation.samplers.temperature import quadratic
from harness.generation.samplers.xtc import xtc

pytestmark = pytest.mark.usefixtures("one_torch_thread")
P = torch.tensor([0.40, 0.25, 0.15, 0.10, 0.05, 0.03, 0.015, 0.005], dtype=torch.float64)
LOGITS = P.log()[None]


def row(history: list[int] | None = None, **kwargs: Any) -> RowState:
    return RowState(key=1, history=history or [], prompt_tokens=0, **kwargs)


def filtered(logits: Tensor = LOGITS, **parameters: Any) -> Tensor:
    """Probabilities that the chain of these parameters leaves, of one row."""
    return SamplerChain(SamplingConfig(**parameters)).filter(logits, [row()] * len(logits)).softmax(dim=-1)[0]


def kept(p: Tensor) -> list[int]:
    return p.nonzero()[:, 0].tolist()


KEPT = {
    "top_k": [({"top_k": 3}, 3, (0.5, 0.1875))],
    "top_p": [({"top_p": 0.78}, 3, None), ({"top_p": 0.82}, 4, None)],
    "min_p": [
        ({"min_p": 0.12}, 5, (0.421053, 0.052632)),
        ({"min_p": 0.2}, 4, None),
        ({"min_p": 0.2, "temperature": 2}, 6, (0.283258, 0.077573)),
    ],
    "typical": [({"typical_p": 0.5}, 3, None)],
    "epsilon": [({"epsilon_cutoff": 0.02}, 6, (0.408163, 0.030612))],
    "eta": [({"eta_cutoff": 0.1}, 4, None), ({"eta_cutoff": 0.02}, 6, None)],
    "top_h, renormalised": [({"top_h": share}, n, None) for share, n in ((0.5, 2), (0.6, 2), (0.8, 3), (0.9, 5))],
    "top_n_sigma, of the population": [({"top_n_sigma": n}, left, None) for n, left in ((0.5, 2), (1, 3), (1.5, 4), (2, 6))],
    "top_n_sigma at any temperature": [({"top_n_sigma": 1, "temperature": t}, 3, None) for t in (0.5, 1, 2, 5)],
    "min_p at temperatures": [({"min_p": 0.2, "temperature": t}, n, None) for t, n in ((0.5, 2), (1, 4), (2, 6), (5, 8))],
    "p_less": [({"p_less": "plain", "temperature": t}, n, None) for t, n in ((0.5, 1), (1, 1), (2, 2), (5, 3))],
    "p_less_norm": [({"p_less": "norm"}, 2, None)],
    "mirostat": [({"mirostat_tau": 2.0}, 4, None)],
    "temperature": [({"temperature": 2}, 8, (0.260701, 0.029147)), ({"temperature": 0.5}, 8, (0.618597, 0.000097))],
    "orders": [
        ({"top_p": 0.94, "min_p": 0.12}, 5, None),
        ({"top_p": 0.94, "min_p": 0.12, "order": ["min_p", "top_p"]}, 4, (0.444444, 0.111111)),
        ({"top_k": 3, "top_p": 0.7}, 2, (0.615385, 0.384615)),
    ],
    "four at once": [
        ({"temperature": 2, "top_k": 6, "top_p": 0.9, "min_p": 0.15}, 5, (0.307079, 0.108569)),
        (  # vLLM
            {"temperature": 2, "top_k": 6, "top_p": 0.9, "min_p": 0.15, "order": ["temperature", "min_p", "top_k", "top_p"]},
            5,
            (0.307079, 0.108569),
        ),
        (  # llama.cpp
            {"temperature": 2, "top_k": 6, "top_p": 0.9, "min_p": 0.15, "order": ["top_k", "top_p", "min_p", "temperature"]},
            4,
            (0.344478, 0.172239),
        ),
    ],
}


@pytest.mark.parametrize(
    ("parameters", "count", "ends"), [pytest.param(*case, id=f"{name} {case[0]}") for name, cases in KEPT.items() for case in cases]
)
def test_the_first_tokens_stay(parameters: dict[str, Any], count: int, ends: tuple[float, float] | None) -> None:
    p = filtered(**parameters)
    assert kept(p) == list(range(count))
    if ends is not None:
        assert (p[0].item(), p[count - 1].item()) == pytest.approx(ends, abs=5e-7)


def test_typical_may_drop_the_most_likely() -> None:
    assert kept(filtered(typical_p=0.2)) == [1]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.1, [0, 0, 0, 0.5, 0.25, 0.15, 0.075, 0.025]),
        (0.2, [0, *(P[1:] / 0.6).tolist()]),
        (0.45, P.tolist()),
    ],
)
def test_xtc(threshold: float, expected: list[float]) -> None:
    both = xtc(LOGITS.expand(2, -1), threshold, torch.tensor([True, False])).softmax(dim=-1)
    assert both[0].tolist() == pytest.approx(expected)
    assert both[1].tolist() == pytest.approx(P.tolist())


def test_xtc_acts_as_often_as_said_whatever_else_is_drawn() -> None:
    chain = SamplerChain(SamplingConfig(xtc_probability=0.3))
    rows = [RowState(key=key, history=[0] * position, prompt_tokens=0) for key in range(100) for position in range(100)]
    acted = chain.filter(LOGITS.expand(len(rows), -1), rows)[:, 0] == -torch.inf
    assert acted.double().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / len(rows)))
    keys, positions = as_int64([row.key for row in rows]), torch.tensor([row.position for row in rows])
    drawn = noisy(LOGITS.expand(len(rows), -1), keys, positions).argmax(dim=-1)
    assert (drawn[acted] == 0).double().mean().item() == pytest.approx(0.4, abs=4 * math.sqrt(0.24 / acted.sum().item()))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"smoothing_factor": 0.2}, [0.233516, 0.223423, 0.192644, 0.158997, 0.09834, 0.061029, 0.027034, 0.005017]),
        (
            {"smoothing_factor": 0.3, "smoothing_curve": 1.5},
            [0.286968, 0.270935, 0.215324, 0.152497, 0.055262, 0.017224, 0.001784, 7e-6],
        ),
        (
            {"temperature": 1.0, "dynatemp_range": 0.5},
            [0.344877, 0.23723, 0.157965, 0.114387, 0.065877, 0.043866, 0.025263, 0.010536],
        ),
        ({"adaptive_target": 0.3}, [0.283087, 0.513368, 0.123029, 0.04526, 0.014749, 0.00917, 0.006365, 0.004972]),
    ],
)
def test_bent(parameters: dict[str, Any], expected: list[float]) -> None:
    assert filtered(**parameters).tolist() == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(("token", "surprise", "mu"), [(0, 1.169925, 4.083007), (2, 2.584963, 3.941504)])
def test_mirostat_learns(token: int, surprise: float, mu: float) -> None:
    sampler, state = Mirostat(tau=2, eta=0.1), row()
    sampler.learn(torch.tensor([token]), sampler(LOGITS, [state]), [state])
    assert state.memory[MU] == pytest.approx(mu, abs=5e-7)
    assert state.memory[MU] == pytest.approx(4 + 0.1 * (2 - surprise), abs=5e-7)


def test_adaptive_p_learns() -> None:
    sampler, states = AdaptiveP(target=0.3, decay=0.9), [row(), row()]
    logits = LOGITS.expand(2, -1)
    sampler.learn(torch.tensor([0, 7]), logits, states)
    assert [sampler.aim(state) for state in states] == pytest.approx([0.6 - 0.31, 0.6 - 0.2705])


def test_penalties() -> None:
    logits = torch.tensor([[2, 1, 0.5, -0.5, -1, 0, -2, -3]], dtype=torch.float64)
    history = [[0, 3, 3, 5]]
    assert penalties(logits, history, repetition=1.2).tolist()[0] == pytest.approx([5 / 3, 1, 0.5, -0.6, -1, 0, -2, -3])
    assert penalties(logits, history, frequency=0.5, presence=0.3).tolist()[0] == pytest.approx([1.2, 1, 0.5, -1.8, -1, -0.8, -2, -3])


def test_each_row_is_penalised_for_its_own_last_tokens() -> None:
    chain = SamplerChain(SamplingConfig(presence_penalty=1.0, penalty_last_n=2))
    p = chain.filter(torch.zeros(3, 4), [row([0, 1, 2]), row([3]), row([])])
    assert p.tolist() == [[0, -1, -1, 0], [0, 0, 0, -1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("history", "breakers", "expected"),
    [
        ([1, 2, 3, 4, 9, 1, 2, 3], {}, {4: 3}),
        ([1, 2, 3, 4, 9, 1, 2, 3], {2: [()]}, {}),
        ([1, 2, 3, 4, 9, 1, 2, 3], {1: [()]}, {4: 2}),
        ([1, 2, 3, 4, 9, 1, 2, 3], {1: [(2,)]}, {}),
        ([1, 2, 3, 4, 9, 1, 2, 3], {4: [()]}, {}),
        ([1, 2, 3, 4, 9, 1, 2, 3], {4: [(7,)]}, {4: 3}),
        ([1, 2, 3, 4, 9, 1, 2, 3], {1: [(3,)]}, {4: 3}),
        ([5, 5, 5, 5], {}, {5: 3}),
        ([1, 2, 7, 1, 2, 8, 1, 2], {}, {7: 2, 8: 2}),
        ([0, 1, 2, 7, 1, 2, 7, 0, 1, 2], {}, {7: 3}),
        ([1, 2], {}, {}),
        ([], {}, {}),
    ],
)
def test_repetitions(history: list[int], breakers: Any, expected: dict[int, int]) -> None:
    assert repetitions(history, 2, breakers, longest=100) == expected


def test_dry() -> None:
    history = [1, 2, 3, 4, 9, 1, 2, 3]
    lowered = dry(torch.zeros(1, 10).double(), [history], multiplier=0.8, base=1.75, allowed_length=2, breakers={})
    assert lowered.tolist()[0] == pytest.approx([0, 0, 0, 0, -1.4, 0, 0, 0, 0, 0])


def test_dry_stays_finite_in_endless_repetitions() -> None:
    assert dry(torch.zeros(1, 3), [[1] * 3000], multiplier=0.8, base=1.75, allowed_length=2, breakers={}).isfinite().all()


class Letters:
    """A tokenizer of single letters and some longer tokens."""

    texts = ("a", "b", "c", "\n", "ab", "x\n", "c:")

    def __len__(self) -> int:
        return len(self.texts)

    def batch_decode(self, rows: list[list[int]], **kwargs: Any) -> list[str]:
        return ["".join(self.texts[token] for token in row) for row in rows]

    def encode(self, text: str, **kwargs: Any) -> list[int]:
        return [self.texts.index(letter) for letter in text]


def test_sequence_breakers() -> None:
    newline, several = sequence_breakers(Letters(), ["\n"]), sequence_breakers(Letters(), ["abc"])
    assert newline == {3: [()], 5: [()]}
    assert several == {0: [(1, 2)], 4: [(2,)]}


# What holds for any logits.

ON: dict[SamplerName, list[dict[str, Any]]] = {
    "penalties": [{"repetition_penalty": 1.3, "presence_penalty": 0.2}],
    "dry": [{"dry_multiplier": 0.8, "dry_sequence_breakers": []}],
    "top_n_sigma": [{"top_n_sigma": n} for n in (2.0, 1.0, 0.5, 0.01)],
    "temperature": [{"temperature": 0.7}, {"temperature": 1.0, "dynatemp_range": 1.0}],
    "quadratic": [{"smoothing_factor": 0.3, "smoothing_curve": 1.5}],
    "top_h": [{"top_h": share} for share in (0.95, 0.6, 0.2, 0.001)],
    "top_k": [{"top_k": k} for k in (50, 5, 2, 1)],
    "top_p": [{"top_p": p} for p in (0.999, 0.7, 0.2, 1e-6)],
    "min_p": [{"min_p": p} for p in (1e-6, 0.1, 0.5, 1.0)],
    "typical": [{"typical_p": p} for p in (0.999, 0.7, 0.2, 1e-6)],
    "epsilon": [{"epsilon_cutoff": p} for p in (1e-9, 1e-3, 0.2, 0.99)],
    "eta": [{"eta_cutoff": p} for p in (1e-9, 1e-3, 0.2, 0.99)],
    "p_less": [{"p_less": "norm"}, {"p_less": "plain"}],
    "xtc": [{"xtc_probability": 1.0, "xtc_threshold": p} for p in (0.5, 0.01, 1e-6)],
    "mirostat": [{"mirostat_tau": tau} for tau in (9.0, 3.0, 0.01)],
    "adaptive_p": [{"adaptive_target": 0.4}],
}
MONOTONE: set[SamplerName] = {"top_n_sigma", "top_h", "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "p_less", "mirostat"}
CASES = [parameters for each in ON.values() for parameters in each]
HISTORY = [1, 2, 0, 1, 2]

finite = st.floats(-30, 30, width=16)
any_logits = st.lists(st.one_of(finite, st.just(-math.inf)), min_size=3, max_size=40).filter(lambda values: max(values) > -math.inf)


def test_every_sampler_is_here() -> None:
    assert set(ON) == set(OFF) == set(SamplingConfig().order)


@settings(max_examples=300, deadline=None)
@given(parameters=st.sampled_from(CASES), values=any_logits)
def test_something_stays_and_nothing_comes_back(parameters: dict[str, Any], values: list[float]) -> None:
    logits = torch.tensor([values], dtype=torch.float32)
    result = SamplerChain(SamplingConfig(**parameters)).filter(logits, [row(HISTORY)])
    assert logits.tolist() == [values], "the argument is not changed"
    assert not result.isnan().any()
    assert not (result == torch.inf).any()
    assert (result > -torch.inf).any()
    assert (result[logits == -torch.inf] == -torch.inf).all()


@settings(max_examples=300, deadline=None)
@given(
    parameters=st.sampled_from([case for case in CASES if "repetition_penalty" not in case]),  # by definition it looks at the sign
    values=st.lists(st.integers(-40, 40), min_size=3, max_size=40),
    shift=st.sampled_from([-64.0, 32.0, 128.0]),
)
def test_a_shift_of_all_logits_changes_nothing(parameters: dict[str, Any], values: list[int], shift: float) -> None:
    logits = torch.tensor([values], dtype=torch.float64) / 4
    chain = SamplerChain(SamplingConfig(**parameters))
    p, shifted = (chain.filter(given, [row(HISTORY)]).softmax(dim=-1) for given in (logits, logits + shift))
    assert shifted.tolist()[0] == pytest.approx(p.tolist()[0], abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(MONOTONE)), values=any_logits)
def test_a_stricter_parameter_keeps_no_more(name: SamplerName, values: list[float]) -> None:
    logits = torch.tensor([values], dtype=torch.float64)
    sets = [set(kept(filtered(logits, **parameters))) for parameters in ON[name]]
    assert all(stricter <= wider for wider, stricter in pairwise(sets))


@settings(max_examples=300, deadline=None)
@given(parameters=st.sampled_from(CASES), values=st.lists(st.integers(-3, 3), min_size=3, max_size=20))
def test_equal_tokens_stay_or_go_together(parameters: dict[str, Any], values: list[int]) -> None:
    logits = torch.tensor([values], dtype=torch.float32)
    result = SamplerChain(SamplingConfig(**parameters)).filter(logits, [row()])[0].tolist()
    assert len(set(zip(values, result, strict=True))) == len(set(values))


def test_off_is_the_very_same_tensor() -> None:
    logits = torch.randn(3, 50)
    chain = SamplerChain(SamplingConfig())
    assert chain.filter(logits, [row(HISTORY)] * 3) is logits
    assert not chain.greedy
    assert SamplerChain(SamplingConfig(temperature=0)).greedy


def test_details_of_what_is_off_change_nothing() -> None:
    details = SamplingConfig(dynatemp_exponent=2.0, smoothing_curve=2.0, dry_base=2.0, xtc_threshold=0.2, adaptive_decay=0.5)
    assert SamplerChain(details).filter(LOGITS, [row()]) is LOGITS


def test_the_parabola_keeps_what_is_removed_away() -> None:
    assert quadratic(torch.tensor([[0.0, -math.inf]]), 0.5, 1.0).tolist() == [[0, -math.inf]]


@pytest.mark.parametrize("sampler", [lambda x: prefix.top_p(x, 0.9), lambda x: prefix.typical(x, 0.9), lambda x: prefix.top_h(x, 0.95)])
def test_a_large_vocabulary_is_sorted_only_where_it_must(sampler: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5000, generator=generator) * torch.tensor([[8.0], [2.0], [1.0], [0.1]])
    whole = sampler(logits)
    monkeypatch.setattr(prefix, "BEST", 5000)
    assert torch.equal(whole, sampler(logits))
    monkeypatch.setattr(prefix, "BEST", 1024)
    sizes: list[int] = []
    topk = Tensor.topk
    monkeypatch.setattr(Tensor, "topk", lambda scores, k, dim: sizes.append(k) or topk(scores, k, dim))
    assert torch.equal(whole[:1], sampler(logits[:1]))
    assert torch.equal(whole[3:], sampler(logits[3:]))
    assert sizes == [1024, 1024, 5000]


def test_greedy_follows_penalties() -> None:
    chain = SamplerChain(SamplingConfig(temperature=0, repetition_penalty=2.0))
    assert chain.filter(torch.tensor([[3.0, 2.0]]), [row([0])]).argmax().item() == 1


def test_a_row_does_not_depend_on_those_beside_it() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(24, 300, generator=generator)
    without = {"p_less", "epsilon", "eta", "mirostat"}  # they would leave little
    everything = {key: value for name in ON if name not in without for key, value in ON[name][0].items()}
    chain = SamplerChain(SamplingConfig(**everything))

    def texts(size: int) -> list[list[int]]:
        rows = [RowState(key=index, history=[index % 7, index % 5], prompt_tokens=2) for index in range(24)]
        for _ in range(4):
            for start in range(0, 24, size):
                some = rows[start : start + size]
                left = chain.filter(logits[start : start + size], some)
                ids = noisy(left, as_int64([row.key for row in some]), torch.tensor([row.position for row in some])).argmax(dim=-1)
                chain.chosen(ids, logits[start : start + size], some)
                for state, token in zip(some, ids.tolist(), strict=True):
                    state.history.append(token)
        return [state.history for state in rows]

    assert texts(1) == texts(7) == texts(24)


def test_no_parameter_is_without_a_sampler() -> None:
    switches = {key for keys in OFF.values() for key in keys}
    details = {"dynatemp_exponent", "smoothing_curve", "penalty_last_n", "xtc_threshold", "mirostat_eta", "adaptive_decay"}
    others = {item.name for item in fields(SamplingConfig)} - switches - details - {"name", "seed", "order"}
    assert {name for name in others if not name.startswith("dry_")} == set()
