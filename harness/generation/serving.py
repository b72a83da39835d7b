"""What a way of sampling is called by the engines that serve models, and how much of it they can do. No torch here.

Every setting is said, also of what is off: engines have defaults of their own (transformers top_k 50, llama.cpp top_p 0.95), and fill in
what a checkpoint says.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.config.active_samplers import active_samplers, switches
from harness.config.schema import SamplerName, SamplingConfig

Verdict = Literal["exact", "approximate", "not expressible"]
VERDICTS: tuple[Verdict, ...] = ("exact", "approximate", "not expressible")
COMMUTE = frozenset({frozenset(pair) for pair in (("temperature", "top_k"), ("temperature", "top_n_sigma"), ("top_k", "min_p"))})
"""Pairs whose order changes nothing: a temperature that is the same everywhere keeps ranks and ratios of distances; ranks, and ratios to
the highest, do not ask what else is there."""


@dataclass(frozen=True)
class Note:
    """What an engine does not do as we do."""

    verdict: Verdict
    about: str
    """Samplers or keys."""
    why: str


@dataclass(frozen=True)
class Served:
    """The settings of an engine for a way of sampling."""

    settings: dict[str, Any]
    """By the engine's own names, as JSON has them."""
    notes: tuple[Note, ...]
    """What differs; () where the engine draws from the same distribution, but for the order of tokens that are equally likely."""

    @property
    def verdict(self) -> Verdict:
        """exact; approximate: everything is there, something is done in another way; not expressible: something is left out."""
        return max((note.verdict for note in self.notes), key=VERDICTS.index, default="exact")


TRANSFORMERS_ORDER: tuple[SamplerName, ...] = (
    "penalties",
    "temperature",
    "top_h",
    "top_k",
    "top_p",
    "min_p",
    "typical",
    "epsilon",
    "eta",
)
VLLM_ORDER: tuple[SamplerName, ...] = ("penalties", "temperature", "min_p", "top_k", "top_p")
OPENAI_ORDER: tuple[SamplerName, ...] = ("penalties", "temperature", "top_p")
LLAMA_CPP_NAMES: dict[SamplerName, str] = {
    "penalties": "penalties",
    "dry": "dry",
    "top_n_sigma": "top_n_sigma",
    "top_k": "top_k",
    "typical": "typ_p",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc": "xtc",
    "temperature": "temperature",
    "adaptive_p": "adaptive_p",
}


def for_transformers(sampling: SamplingConfig) -> Served:
    """The fields of generation_config.json: only those that `GenerationConfig` has, since it keeps and ignores all others."""
    if sampling.temperature == 0:
        settings: dict[str, Any] = {"do_sample": False, "repetition_penalty": sampling.repetition_penalty}
    else:
        settings = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p or None,
            "top_h": sampling.top_h if switches(sampling, "top_h") else None,
            "typical_p": sampling.typical_p,
            "epsilon_cutoff": sampling.epsilon_cutoff,
            "eta_cutoff": sampling.eta_cutoff,
            "repetition_penalty": sampling.repetition_penalty,
        }
    return Served(settings, tuple(_transformers_notes(sampling)))


def _transformers_notes(sampling: SamplingConfig) -> Iterator[Note]:
    yield from _missing(sampling, TRANSFORMERS_ORDER, "transformers")
    yield from _other_order(sampling, TRANSFORMERS_ORDER, "transformers")
    for key in ("presence_penalty", "frequency_penalty"):
        if key in switches(sampling, "penalties"):
            yield Note("not expressible", key, "transformers has no such penalty")
    if sampling.dynatemp_range:
        yield Note("not expressible", "dynatemp_range", "transformers has one temperature")
    if switches(sampling, "top_h"):
        yield Note(
            "approximate",
            "top_h",
            "transformers takes the entropy of the kept tokens without renormalising them, and keeps at most 100",
        )
    if sampling.repetition_penalty != 1:
        yield from _whole_history(sampling, "transformers")
    if sampling.temperature == 0 and switches(sampling, "typical"):
        yield Note("not expressible", "typical_p", "transformers takes the most likely token of all where it does not draw")


def for_vllm(sampling: SamplingConfig) -> Served:
    """The fields of a request, and of `--override-generation-config`."""
    settings = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    return Served(settings, tuple(_vllm_notes(sampling)))


def _vllm_notes(sampling: SamplingConfig) -> Iterator[Note]:
    yield from _missing(sampling, VLLM_ORDER, "vLLM")
    yield from _other_order(sampling, VLLM_ORDER, "vLLM")
    if sampling.dynatemp_range:
        yield Note("not expressible", "dynatemp_range", "vLLM has one temperature")
    for key in ("presence_penalty", "frequency_penalty"):
        if key in switches(sampling, "penalties"):
            yield Note("approximate", key, "vLLM counts what was written, not the prompt")
    if switches(sampling, "penalties"):
        yield from _whole_history(sampling, "vLLM")


def for_openai(sampling: SamplingConfig) -> Served:
    """The fields of a request that every server of OpenAI's protocol knows."""
    settings = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    return Served(settings, tuple(_openai_notes(sampling)))


def _openai_notes(sampling: SamplingConfig) -> Iterator[Note]:
    engine = "OpenAI's protocol"
    yield from _missing(sampling, OPENAI_ORDER, engine)
    yield from _other_order(sampling, OPENAI_ORDER, engine)
    if sampling.dynatemp_range:
        yield Note("not expressible", "dynatemp_range", f"{engine} has one temperature")
    if sampling.repetition_penalty != 1:
        yield Note("not expressible", "repetition_penalty", f"{engine} has no such penalty")
    for key in ("presence_penalty", "frequency_penalty"):
        if key in switches(sampling, "penalties"):
            yield Note("approximate", key, f"{engine} counts what was written, not the prompt")
    if switches(sampling, "penalties"):
        yield from _whole_history(sampling, engine)


def for_llama_cpp(sampling: SamplingConfig, context_tokens: int) -> Served:
    """The fields of a request to its /completion; `llama_cpp_arguments` makes options of them.

    context_tokens: what prompt and text may have together, where penalties look at all of it.
    """
    active = active_samplers(sampling)
    order = [LLAMA_CPP_NAMES[name] for name in sampling.order if name in LLAMA_CPP_NAMES and (name in active or name == "temperature")]
    if "temperature" not in order:
        order.append("temperature")  # of 1: no list at all would mean the default
    settings = {
        "samplers": order,
        "temperature": sampling.temperature,
        "dynatemp_range": sampling.dynatemp_range,
        "dynatemp_exponent": sampling.dynatemp_exponent,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "top_n_sigma": sampling.top_n_sigma or -1,
        "xtc_probability": sampling.xtc_probability,
        "xtc_threshold": sampling.xtc_threshold,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": sampling.penalty_last_n or context_tokens,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "dry_multiplier": sampling.dry_multiplier,
        "dry_base": sampling.dry_base,
        "dry_allowed_length": sampling.dry_allowed_length,
        "dry_penalty_last_n": sampling.dry_penalty_last_n or context_tokens,
        "dry_sequence_breakers": list(sampling.dry_sequence_breakers) or [""],  # no list may be empty, and an empty text is skipped
        "mirostat": 0 if sampling.mirostat_tau is None else 2,
        "mirostat_tau": 5.0 if sampling.mirostat_tau is None else sampling.mirostat_tau,
        "mirostat_eta": sampling.mirostat_eta,
        "adaptive_target": -1.0 if sampling.adaptive_target is None else sampling.adaptive_target,
        "adaptive_decay": sampling.adaptive_decay,
    }
    return Served(settings, tuple(_llama_cpp_notes(sampling)))


def _llama_cpp_notes(sampling: SamplingConfig) -> Iterator[Note]:
    active = active_samplers(sampling)
    yield from _missing(sampling, (*LLAMA_CPP_NAMES, "mirostat"), "llama.cpp")
    for name in ("typical", "temperature"):
        if name in active and (name == "typical" or sampling.dynatemp_range) and "top_n_sigma" in active[: active.index(name)]:
            between = active[active.index("top_n_sigma") : active.index(name)]
            if "top_p" not in between and "min_p" not in between:
                about = f"top_n_sigma, {'typical' if name == 'typical' else 'dynatemp_range'}"
                yield Note("approximate", about, "llama.cpp counts the tokens that top_n_sigma removes when it takes the entropy")
    if "mirostat" in active:
        skipped: list[str] = [name for name in active if name in LLAMA_CPP_NAMES and name != "temperature"]
        skipped += ["dynatemp_range"] if sampling.dynatemp_range else []
        if skipped:
            yield Note("not expressible", ", ".join(skipped), "beside mirostat llama.cpp applies a temperature alone")


OPTIONS = {
    "temperature": "--temp",
    "dynatemp_range": "--dynatemp-range",
    "dynatemp_exponent": "--dynatemp-exp",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "typical_p": "--typical",
    "top_n_sigma": "--top-nsigma",
    "xtc_probability": "--xtc-probability",
    "xtc_threshold": "--xtc-threshold",
    "repeat_penalty": "--repeat-penalty",
    "repeat_last_n": "--repeat-last-n",
    "presence_penalty": "--presence-penalty",
    "frequency_penalty": "--frequency-penalty",
    "dry_multiplier": "--dry-multiplier",
    "dry_base": "--dry-base",
    "dry_allowed_length": "--dry-allowed-length",
    "dry_penalty_last_n": "--dry-penalty-last-n",
    "mirostat": "--mirostat",
    "mirostat_tau": "--mirostat-ent",
    "mirostat_eta": "--mirostat-lr",
    "adaptive_target": "--adaptive-target",
    "adaptive_decay": "--adaptive-decay",
}
"""Of llama.cpp, for the fields of its requests."""


def llama_cpp_arguments(sampling: SamplingConfig, context_tokens: int) -> list[str]:
    """The same for the command line of llama.cpp's programs."""
    settings = for_llama_cpp(sampling, context_tokens).settings
    arguments = ["--samplers", ";".join(settings["samplers"])]
    for field, option in OPTIONS.items():
        arguments += [option, str(settings[field])]
    for breaker in sampling.dry_sequence_breakers or ["none"]:
        arguments += ["--dry-sequence-breaker", breaker]
    return arguments


def _missing(sampling: SamplingConfig, has: Sequence[SamplerName], engine: str) -> Iterator[Note]:
    for name in active_samplers(sampling):
        if name not in has:
            yield Note("not expressible", name, f"{engine} has no such sampler")


def _other_order(sampling: SamplingConfig, order: Sequence[SamplerName], engine: str) -> Iterator[Note]:
    """Of pairs that the engine applies the other way round."""
    ours = [name for name in active_samplers(sampling) if name in order]
    for at, first in enumerate(ours):
        for second in ours[at + 1 :]:
            commute = frozenset({first, second}) in COMMUTE and not sampling.dynatemp_range
            if order.index(second) < order.index(first) and not commute:
                yield Note("approximate", f"{first}, {second}", f"{engine} applies {second} before {first}")


def _whole_history(sampling: SamplingConfig, engine: str) -> Iterator[Note]:
    if sampling.penalty_last_n is not None:
        yield Note("approximate", "penalty_last_n", f"{engine} looks at all tokens")


@dataclass(frozen=True)
class ServedFile:
    """What an engine is given to sample alike."""

    engine: str
    name: str
    text: str
    served: Served


def served_files(sampling: SamplingConfig, context_tokens: int) -> list[ServedFile]:
    """For each engine, a file. context_tokens: that the model reads."""
    transformers, vllm = for_transformers(sampling), for_vllm(sampling)
    arguments = " ".join(map(shlex.quote, llama_cpp_arguments(sampling, context_tokens)))
    return [
        ServedFile("transformers", "generation_config.json", _json(transformers.settings), transformers),
        ServedFile("vLLM", "vllm.json", _json(vllm.settings), vllm),
        ServedFile("llama.cpp", "llamacpp.txt", f"{arguments}\n", for_llama_cpp(sampling, context_tokens)),
    ]


def _json(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=2, allow_nan=False) + "\n"
