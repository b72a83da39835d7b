"""Our samplers beside those of a real llama.cpp, with the settings that we export for it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from harness.config.schema import SamplerName, SamplingConfig
from harness.generation.chain import SamplerChain
from harness.generation.row_state import RowState
from harness.generation.serving import for_llama_cpp
from tests.support.llama_cpp import CONTEXT, LlamaServer, WordTokenizer, llama_server, small_llama, vocabulary, write_gguf

pytestmark = pytest.mark.slow
WORDS = ["▁the", "▁cat", "▁", "ab", ":", "x:", "*", '"', *(f"w{index}" for index in range(60))]
TOKENS = vocabulary(WORDS)
WRITTEN = 8
"""Tokens after each prompt, at each of which the distributions are compared."""


@pytest.fixture(scope="module")
def model(one_torch_thread: None) -> LlamaForCausalLM:
    return small_llama(len(TOKENS))


@pytest.fixture(scope="module")
def server(model: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    path: Path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(path, model, TOKENS)
    with llama_server(path) as server:
        yield server


def prompts() -> list[list[int]]:
    """Of many lengths; the later ones repeat themselves."""
    generator = torch.Generator().manual_seed(0)
    random = [torch.randint(3, len(TOKENS), (length,), generator=generator).tolist() for length in range(1, 13)]
    colon = [TOKENS.index(":")]
    repeating = [text[:6] + colon * (len(text) % 2) + text[:5] + text[:4] for text in random[6:]]
    return [[1, *text] for text in random[:6] + repeating]


ALONE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "temperature": {"temperature": 0.6},
    "hot": {"temperature": 2.5},
    "greedy": {"temperature": 0.0},
    "dynatemp": {"temperature": 1.1, "dynatemp_range": 0.9, "dynatemp_exponent": 1.3},
    "top_k": {"top_k": 7},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.05},
    "typical": {"typical_p": 0.6},
    "top_n_sigma": {"top_n_sigma": 1.1},
    "xtc": {"xtc_probability": 1.0, "xtc_threshold": 0.06},
    "repetition": {"repetition_penalty": 1.3},
    "repetition of the last": {"repetition_penalty": 1.3, "penalty_last_n": 3},
    "presence, frequency": {"presence_penalty": 0.4, "frequency_penalty": 0.3},
    "all penalties": {"repetition_penalty": 1.1, "presence_penalty": 0.4, "frequency_penalty": -0.3},
    "dry": {"dry_multiplier": 0.8},
    "dry of the last": {"dry_multiplier": 0.8, "dry_penalty_last_n": 8, "dry_allowed_length": 1, "dry_base": 2.0},
    "dry across everything": {"dry_multiplier": 0.8, "dry_base": 1.0, "dry_sequence_breakers": []},
    "mirostat": {"mirostat_tau": 3.0, "temperature": 1.2},
    "adaptive_p": {"adaptive_target": 0.3, "min_p": 0.02},
    "adaptive_p without a tail cut": {"adaptive_target": 1.0},
    "slow adaptive_p": {"adaptive_target": 0.6, "adaptive_decay": 0.99, "top_k": 20},
}
TOGETHER: dict[str, Any] = {"temperature": 1.4, "top_k": 40, "top_p": 0.95, "min_p": 0.03, "typical_p": 0.95}
ORDERS: list[list[SamplerName]] = [
    ["top_k", "typical", "top_p", "min_p", "temperature"],
    ["temperature", "top_k", "top_p", "min_p", "typical"],
    ["temperature", "min_p", "top_k", "top_p", "typical"],
    ["typical", "min_p", "temperature", "top_p", "top_k"],
]


@pytest.mark.parametrize("parameters", ALONE.values(), ids=ALONE.keys())
def test_each_sampler(parameters: dict[str, Any], model: LlamaForCausalLM, server: LlamaServer) -> None:
    compare(SamplingConfig(**parameters), model, server)


@pytest.mark.parametrize("order", ORDERS, ids=">".join)
def test_orders(order: list[SamplerName], model: LlamaForCausalLM, server: LlamaServer) -> None:
    compare(SamplingConfig(**TOGETHER, order=order), model, server)


@pytest.mark.parametrize("order", list(permutations(["penalties", "dry", "temperature", "xtc"]))[::5], ids=">".join)
def test_orders_with_what_was_said(order: list[SamplerName], model: LlamaForCausalLM, server: LlamaServer) -> None:
    settings = SamplingConfig(temperature=1.7, repetition_penalty=1.4, dry_multiplier=1.0, xtc_probability=1.0, xtc_threshold=0.08)
    compare(replace(settings, order=list(order)), model, server)


PARAMETERS: dict[SamplerName, list[dict[str, Any]]] = {
    "temperature": [{"temperature": 0.5}, {"temperature": 2.0}, {"temperature": 1.5, "dynatemp_range": 1.0}],
    "top_k": [{"top_k": 5}, {"top_k": 50}],
    "top_p": [{"top_p": 0.5}, {"top_p": 0.95}],
    "min_p": [{"min_p": 0.02}, {"min_p": 0.2}],
    "typical": [{"typical_p": 0.5}, {"typical_p": 0.95}],
    "top_n_sigma": [{"top_n_sigma": 1.0}, {"top_n_sigma": 2.0}],
    "xtc": [{"xtc_probability": 1.0, "xtc_threshold": 0.05}],
    "penalties": [{"repetition_penalty": 1.3, "frequency_penalty": 0.2}],
    "dry": [{"dry_multiplier": 0.8}],
}


def test_any_of_them_in_any_order(model: LlamaForCausalLM, server: LlamaServer) -> None:
    """Wherever the export says that it is exact, which it does not of all."""
    draw = random.Random(0)
    verdicts = Counter[str]()
    for _ in range(100):
        order = draw.sample(list(PARAMETERS), draw.randint(2, 5))
        keys = {key: value for name in order for key, value in draw.choice(PARAMETERS[name]).items()}
        sampling = SamplingConfig(**keys, order=order)
        verdict = for_llama_cpp(sampling, CONTEXT).verdict
        verdicts[verdict] += 1
        if verdict == "exact":
            compare(sampling, model, server, draw.sample(prompts(), 2))
    assert verdicts.keys() == {"exact", "approximate"}
    assert verdicts["exact"] > 70


def compare(sampling: SamplingConfig, model: LlamaForCausalLM, server: LlamaServer, given: list[list[int]] | None = None) -> None:
    """Equal kept sets, and probabilities within 1e-3, at every token that llama.cpp writes."""
    served = for_llama_cpp(sampling, CONTEXT)
    assert served.verdict == "exact"
    chain = SamplerChain(sampling, WordTokenizer(TOKENS))
    compared = 0
    for seed, prompt in enumerate(given or prompts()):
        theirs = list(server.write(prompt, WRITTEN, len(TOKENS), seed=seed, **served.settings))
        state = RowState(key=seed, history=list(prompt), prompt_tokens=len(prompt))
        text = torch.tensor([[*prompt, *(written for written, _ in theirs)]])
        with torch.no_grad():
            predicted = model(text).logits[0, len(prompt) - 1 :].float()
        for logits, (written, p) in zip(predicted, theirs, strict=False):
            left = chain.filter(logits[None], [state])
            ours = left.softmax(dim=-1)[0].double()
            if chain.greedy:
                ours = torch.nn.functional.one_hot(ours.argmax(), len(TOKENS)).double()
            assert ours.nonzero().tolist() == p.nonzero().tolist()
            assert (ours - p).abs().max() < 1e-3
            chain.chosen(torch.tensor([written]), logits[None], [state])
            state.history.append(written)
            compared += 1
    assert compared > (5 if given else 70)
