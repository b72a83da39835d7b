"""What `harness steer` does: a direction is found or read, tried, and written in the form that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks import check_writing
from harness.config.checks.trainer import trains
from harness.config.errors import InputError
from harness.config.overrides import ValueOverride, hydra_text, parse
from harness.config.schema import AdapterConfig, Config
from harness.config.steering_controls import controlled
from harness.merging.write import new_directory, refuse_used
from harness.models.hub import ask_for_models
from harness.runs.directory import StudyDirectory, run_called
from harness.runs.files import write_text
from harness.runs.result import read_result
from harness.runs.run_config import load_run_config
from harness.work.evaluate import evaluation_of

if TYPE_CHECKING:
    from harness.models.steering.vector_file import VectorSettings
    from harness.training.steering_export import VectorFormat

VECTOR_KEY = "adapter.vector"
OF_A_MODEL = ["adapter=steering", "data.context_length=2"]
"""No data are read but pairs, which may be as long as the model reads."""


@dataclass(frozen=True)
class SteeringQuestion:
    """What is steered, how, and what comes of it."""

    model: str
    """A model, or a run with adapter=steering."""
    overrides: list[str]
    form: VectorFormat
    tried: Sequence[str] = ()
    """Prompts to go on from, with and without steering."""
    max_new_tokens: int = 40


def model_among(model: str | None, overrides: list[str]) -> tuple[str, list[str]]:
    """--model, or model.path among the overrides; and the other overrides. Raises InputError where it is given in neither or in both."""
    found = [one for one in parse(overrides, Config) if isinstance(one, ValueOverride) and one.key == "model.path"]
    if (model is None) != (len(found) == 1):
        raise InputError("the model is to be given once; valid: --model MODEL|RUN, or model.path=MODEL")
    if model is not None:
        return model, overrides
    return str(found[0].value), [text for text in overrides if text != found[0].text]


def steering_config(model: str, overrides: list[str]) -> Config:
    """The configuration of a model that is steered, without data. Raises InputError."""
    run = run_called(model) if not (Path(model).expanduser() / "config.json").is_file() else None
    if run is None:
        config = evaluation_of(model, overrides, checked_by=check_writing, of_a_model=OF_A_MODEL).config
    else:
        own = load_run_config(run, checked_by=lambda config: None)
        if own.adapter.name != "steering":
            first = f"harness export {model} DIR first, --model DIR then"
            raise InputError(f"--model {model}: a run with adapter={own.adapter.name}; valid: one with adapter=steering, or {first}")
        given = [one for one in overrides if one.startswith("adapter.")]
        if given and trains(own.trainer):
            raise InputError(f"{given[0]}: not with {model}, a run that trained its direction; valid: no key of the adapter")
        config = evaluation_of(model, overrides, checked_by=check_writing).config
    ask_for_models(config)
    # Of a trial that was a control, what it did in the place of steering.
    return replace(config, adapter=controlled(config.adapter))


def steer(question: SteeringQuestion, out: Path, *, found: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Write the direction to the directory `out`, all of it or nothing; the document of `harness steer --json`. found: told what was found,
    before anything is tried or written.

    Raises InputError for what cannot be used, and for a form that would not be the steered model.
    """
    refuse_used(out)
    config = steering_config(question.model, question.overrides)
    from harness.models.adapters.build import build_adapted_model
    from harness.models.adapters.steering import steering_in
    from harness.models.steering.gguf import not_proved
    from harness.models.tokenizer import load_tokenizer
    from harness.training.export import save_model
    from harness.training.steering import directions_of
    from harness.training.steering_export import baked, vector_settings, write_gguf, write_steering

    tokenizer = load_tokenizer(config)
    adapted = build_adapted_model(config, tokenizer, directions_of(config, tokenizer))
    model: Any = adapted.model
    assert adapted.steering is not None, "adapter=steering"
    steering = steering_in(model, adapted.steering)
    settings = vector_settings(config, tokenizer, steering)
    summary = _summary(settings)
    found(summary)
    summary["tried"] = _tried(config, tokenizer, question)
    with new_directory(out) as directory:
        match question.form:
            case "vector":
                write_steering(directory, config, tokenizer, steering)
            case "gguf":
                family = str(model.config.model_type)
                write_gguf(directory, steering, family=family)
                summary["not_proved"] = not_proved(family)
            case "baked":
                whole, summary["difference"] = baked(config, tokenizer, model, steering)
                save_model(directory, whole, config, tokenizer)
                tokenizer.save_pretrained(directory)
        write_text(directory / "README.md", _card(summary, question.form))
    return {**summary, "format": question.form, "out": str(out)}


def _summary(settings: VectorSettings) -> dict[str, Any]:
    return {
        "model": settings.model,
        "method": settings.method,
        "reading": settings.reading,
        "operation": settings.operation,
        "positions": settings.positions,
        "coefficients": {str(block): coefficient for block, coefficient in settings.coefficients.items()},
        "trained": settings.trained,
        "pairs": settings.pairs,
        "blocks": [
            {"block": block, "norm": norm, "agreement": agreement, "opposed": opposed}
            for block, (norm, agreement, opposed) in enumerate(zip(settings.norms, settings.agreement, settings.opposed, strict=True))
        ],
    }


def _tried(config: Config, tokenizer: Any, question: SteeringQuestion) -> list[dict[str, str]]:
    """What the model writes after each prompt, with the same noise, as it is and steered."""
    if not question.tried:
        return []
    from harness.generation.build import answers_turns
    from harness.generation.prompts import PromptNames, PromptReader
    from harness.generation.rows import Draw, Limits
    from harness.training.writer import writing

    reader, names = PromptReader(config.data, tokenizer, chat=answers_turns(config, tokenizer)), PromptNames()
    prompts = [names.named(reader.of_text(text)) for text in question.tried]
    plain = replace(config, adapter=AdapterConfig(), model=replace(config.model, checkpoint=None))
    texts: list[dict[str, str]] = []
    for one in (plain, config):
        with writing(one, tokenizer) as engine:
            written = engine.write([Draw(prompt, 0) for prompt in prompts], Limits(question.max_new_tokens))
            texts.append({text.id: text.text for text in written})
    return [
        {"prompt": given, "base": texts[0][prompt.id], "steered": texts[1][prompt.id]}
        for given, prompt in zip(question.tried, prompts, strict=True)
    ]


def _card(summary: dict[str, Any], form: VectorFormat) -> str:
    """What the directory holds, and how it is used."""
    blocks = ", ".join(f"block {block}: {coefficient:g}" for block, coefficient in summary["coefficients"].items())
    use = {
        "vector": "harness evaluate MODEL adapter=steering adapter.vector=THIS-DIRECTORY …",
        "gguf": "llama-cli -m MODEL.gguf --control-vector control-vector.gguf",
        "baked": "AutoModelForCausalLM.from_pretrained(THIS-DIRECTORY)",
    }
    return f"""# {summary["model"]}, steered

operation: {summary["operation"]} ({blocks}), at {summary["positions"]} tokens. Coefficients are in units of the mean norm of the block's
output (of ablate shares).
direction: {summary["method"]}, read at {summary["reading"]}, of {summary["pairs"]} pairs{", then trained" if summary["trained"] else ""}.

```text
{use[form]}
```
"""


def words_of(pairs: Path | None, block: int | None, coefficient: float | None) -> list[str]:
    """Options of the command as overrides."""
    given = {"adapter.pairs": pairs, "adapter.block": block, "adapter.coefficient": coefficient}
    return [f"{key}={hydra_text(str(value) if isinstance(value, Path) else value)}" for key, value in given.items() if value is not None]


def refuse_changed_vector(study: StudyDirectory) -> None:
    """Raise InputError where a trial steered by a vector file that is another one by now, or whose coefficient meant something else."""
    from harness.training.steering import steering_fingerprints

    for run in study.trials():
        then = read_result(run).fingerprints.get(VECTOR_KEY)
        if then is None:
            continue
        config = load_run_config(run, checked_by=lambda config: None)
        if steering_fingerprints(config, None).get(VECTOR_KEY) != then:
            raise InputError(f"{run.path}: the {VECTOR_KEY} changed since this run began; going on would mix two runs")
