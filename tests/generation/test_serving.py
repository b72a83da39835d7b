"""What engines are told: every setting, the right verdict, and, where it says "exact", the same distribution."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
import torch
from transformers import GenerationConfig

from harness.config.active_samplers import active_samplers
from harness.config.checks.sampling import sampling_problems
from harness.config.locations import shipped
from harness.config.schema import SamplingConfig, SamplingName
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_section
from harness.generation.chain import SamplerChain
from harness.generation.row_state import RowState
from harness.generation.serving import OPTIONS, for_llama_cpp, for_transformers, for_vllm, llama_cpp_arguments
from tests.support.llama_cpp import CONTEXT, small_llama


def choice(name: str) -> SamplingConfig:
    """sampling=NAME."""
    return to_section(SamplingConfig, read_mapping(shipped("conf") / "sampling" / f"{name}.yaml", holds="keys of sampling"))


@pytest.mark.parametrize("name", get_args(SamplingName))
def test_each_choice_does_what_it_is_called(name: str) -> None:
    sampling = choice(name)
    does = {"dynatemp": "temperature", "greedy": "temperature", "p_less_norm": "p_less"}.get(name, name)
    assert sampling.name == name
    assert does in active_samplers(sampling) or name == "temperature"  # of 1, until a study says otherwise
    assert not [*sampling_problems(sampling)]


EXACT_IN_TRANSFORMERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.3},
    {"top_k": 7},
    {"top_p": 0.8},
    {"min_p": 0.1, "temperature": 1.5},
    {"typical_p": 0.4},
    {"epsilon_cutoff": 0.02},
    {"eta_cutoff": 0.1},
    {"repetition_penalty": 1.3},
    {"temperature": 1.4, "top_k": 40, "top_p": 0.95, "min_p": 0.03, "typical_p": 0.9, "epsilon_cutoff": 1e-3, "eta_cutoff": 2e-3},
    {"top_k": 9, "temperature": 0.6, "order": ["top_k", "temperature"]},
    {"min_p": 0.1, "top_k": 9, "order": ["min_p", "top_k"]},
]


@pytest.mark.parametrize("parameters", EXACT_IN_TRANSFORMERS, ids=str)
def test_transformers_draws_from_the_same(parameters: dict[str, Any]) -> None:
    sampling = SamplingConfig(**parameters)
    served = for_transformers(sampling)
    assert served.verdict == "exact"
    read = GenerationConfig(**json.loads(json.dumps(served.settings)))
    history = [1, 5, 7, 5, 30]
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20, 60, generator=generator)
    processors = small_llama(60)._get_logits_processor(read, input_ids_seq_length=len(history))
    theirs = processors(torch.tensor([history] * 20), logits.clone())
    chain = SamplerChain(sampling)
    ours = chain.filter(logits, [RowState(key=0, history=history, prompt_tokens=5)] * 20)
    assert read.do_sample != chain.greedy
    if chain.greedy:
        assert torch.equal(ours.argmax(dim=-1), theirs.argmax(dim=-1))
    else:
        assert torch.equal(ours > -torch.inf, theirs > -torch.inf)
        assert torch.allclose(ours.softmax(dim=-1), theirs.softmax(dim=-1), atol=1e-6)


@pytest.mark.parametrize("name", get_args(SamplingName))
def test_transformers_has_every_field_that_it_is_told(name: str) -> None:
    """It would keep and ignore any other. Nothing is left to the checkpoint, either."""
    settings = for_transformers(choice(name)).settings
    assert set(settings) <= set(GenerationConfig().to_dict())
    if settings["do_sample"]:
        read = GenerationConfig(do_sample=True, top_p=0.1, min_p=0.9, typical_p=0.1, repetition_penalty=9.0)
        read.update(**settings)
        assert {key: getattr(read, key) for key in settings} == settings
        read.validate(strict=True)


@pytest.mark.parametrize(
    ("parameters", "about"),
    [
        ({"dry_multiplier": 0.8}, "dry"),
        ({"xtc_probability": 0.5}, "xtc"),
        ({"top_n_sigma": 1.0}, "top_n_sigma"),
        ({"smoothing_factor": 0.2}, "quadratic"),
        ({"p_less": "norm"}, "p_less"),
        ({"mirostat_tau": 3.0}, "mirostat"),
        ({"adaptive_target": 0.3}, "adaptive_p"),
        ({"dynatemp_range": 0.5}, "dynatemp_range"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"temperature": 0.0, "typical_p": 0.3}, "typical_p"),
    ],
    ids=str,
)
def test_transformers_cannot(parameters: dict[str, Any], about: str) -> None:
    served = for_transformers(SamplingConfig(**parameters))
    assert served.verdict == "not expressible"
    assert about in {note.about for note in served.notes}


@pytest.mark.parametrize(
    ("parameters", "about"),
    [
        ({"top_h": 0.4}, "top_h"),
        ({"repetition_penalty": 1.2, "penalty_last_n": 64}, "penalty_last_n"),
        ({"top_p": 0.9, "min_p": 0.1, "order": ["min_p", "top_p"]}, "min_p, top_p"),
        ({"top_p": 0.9, "temperature": 2.0, "order": ["top_p", "temperature"]}, "top_p, temperature"),
    ],
    ids=str,
)
def test_transformers_does_it_in_another_way(parameters: dict[str, Any], about: str) -> None:
    served = for_transformers(SamplingConfig(**parameters))
    assert [(note.verdict, note.about) for note in served.notes] == [("approximate", about)]


@pytest.mark.parametrize(
    ("parameters", "verdict"),
    [
        ({}, "exact"),
        ({"temperature": 0.0}, "exact"),
        ({"temperature": 0.7, "top_k": 40}, "exact"),
        ({"temperature": 0.7, "min_p": 0.1, "top_k": 40}, "exact"),
        ({"repetition_penalty": 1.2}, "exact"),
        ({"temperature": 2.0, "top_k": 40, "min_p": 0.1, "order": ["top_k", "temperature", "min_p"]}, "exact"),
        ({"top_p": 0.9, "min_p": 0.1}, "approximate"),
        ({"temperature": 2.0, "top_p": 0.9, "order": ["top_p", "temperature"]}, "approximate"),
        ({"presence_penalty": 0.5}, "approximate"),
        ({"repetition_penalty": 1.2, "penalty_last_n": 64}, "approximate"),
        ({"dynatemp_range": 0.5}, "not expressible"),
        ({"typical_p": 0.9}, "not expressible"),
        ({"presence_penalty": 0.5, "xtc_probability": 0.1}, "not expressible"),
    ],
    ids=str,
)
def test_vllm(parameters: dict[str, Any], verdict: str) -> None:
    assert for_vllm(SamplingConfig(**parameters)).verdict == verdict


def test_vllm_is_told_everything() -> None:
    assert for_vllm(SamplingConfig(min_p=0.1, temperature=0.8)).settings == {
        "temperature": 0.8,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.1,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


@pytest.mark.parametrize(
    ("parameters", "verdict"),
    [
        ({"mirostat_tau": 3.0, "temperature": 0.8}, "exact"),
        ({"mirostat_tau": 3.0, "top_k": 8}, "not expressible"),
        ({"mirostat_tau": 3.0, "dynatemp_range": 0.5}, "not expressible"),
        ({"top_n_sigma": 1.0, "typical_p": 0.9}, "approximate"),
        ({"top_n_sigma": 1.0, "dynatemp_range": 0.5}, "approximate"),
        ({"top_n_sigma": 1.0, "dynatemp_range": 0.5, "order": ["temperature", "top_n_sigma"]}, "exact"),
        ({"top_n_sigma": 1.0, "min_p": 0.1, "typical_p": 0.9}, "exact"),
        ({"smoothing_factor": 0.2}, "not expressible"),
        ({"top_h": 0.4}, "not expressible"),
    ],
    ids=str,
)
def test_llama_cpp(parameters: dict[str, Any], verdict: str) -> None:
    assert for_llama_cpp(SamplingConfig(**parameters), CONTEXT).verdict == verdict


def test_arguments_of_llama_cpp() -> None:
    sampling = SamplingConfig(temperature=0.8, min_p=0.05, dry_multiplier=0.8, order=["dry", "min_p", "temperature"])
    arguments = llama_cpp_arguments(sampling, 4096)
    assert arguments[:4] == ["--samplers", "dry;min_p;temperature", "--temp", "0.8"]
    options = dict(zip(arguments[: -2 * 4 : 2], arguments[1 : -2 * 4 : 2], strict=True))
    assert set(options) == {"--samplers", *OPTIONS.values()}
    assert (options["--min-p"], options["--top-k"], options["--top-p"], options["--repeat-last-n"]) == ("0.05", "0", "1.0", "4096")
    assert arguments[-8:] == [part for breaker in ("\n", ":", '"', "*") for part in ("--dry-sequence-breaker", breaker)]
    assert llama_cpp_arguments(SamplingConfig(dry_sequence_breakers=[]), 64)[-2:] == ["--dry-sequence-breaker", "none"]
    assert llama_cpp_arguments(SamplingConfig(order=["min_p"]), 64)[:2] == ["--samplers", "temperature"]


def test_llama_cpp_is_told_everything() -> None:
    assert set(for_llama_cpp(SamplingConfig(), CONTEXT).settings) == {"samplers", "dry_sequence_breakers", *OPTIONS}
