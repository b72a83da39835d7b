"""What stands in the place of steering (adapter.control), and what steering may not be judged by."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from harness.config.errors import InputError
from harness.config.load import load
from harness.evaluation.contrast_set import ContrastSet
from harness.evaluation.evaluation_set import Float64
from harness.evaluation.generation_set import GenerationSet
from harness.models.adapters.build import build_adapted_model
from harness.models.tokenizer import load_tokenizer
from harness.training.base import base_of
from harness.training.evaluation import evaluated
from harness.training.inputs import Inputs, load_inputs
from harness.training.steering import directions_of, read_sides
from tests.support.corpus import TinyText


def write_pairs(path: Path, positive: str, negative: str) -> Path:
    rows = [{"prompt": f"{n} and", "positive": f" {positive} {n}", "negative": negative} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def overrides(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> list[str]:
    return [
        "experiment=steer",
        f"model.path={tiny_model}",
        f"adapter.pairs={write_pairs(tmp_path / 'pairs.jsonl', 'green hills', 'old kettle')}",
        "adapter.block=1",
        "adapter.coefficient=0.5",
        f"data.contrast.trait.path={write_pairs(tmp_path / 'trait.jsonl', 'the lazy dog', 'a small garden')}",
        "data.contrast.trait.instruction='rain falls '",
        f"data.validation.general.path={tiny_text.general}",
        "data.validation.general.max_tokens=300",
        "data.context_length=32",
        "data.report_share=0",
        "trainer=cpu",
        f"data.cache_dir={tmp_path / 'cache'}",
    ]


def measured(overrides: list[str]) -> tuple[dict[str, dict[str, float]], Inputs]:
    """Of each set its metrics."""
    config = load(overrides).config
    inputs = load_inputs(config)
    model = build_adapted_model(config, inputs.tokenizer, directions_of(config, inputs.tokenizer)).model
    with evaluated(model, batch_tokens=256, base=base_of(config, inputs.tokenizer)) as reading:
        return {part.name: part.measure(reading, lambda _: None).values for part in inputs.evaluation}, inputs


def first_tokens(inputs: Inputs) -> Float64:
    part = next(one for one in inputs.evaluation if isinstance(one, ContrastSet))
    return part.lengths.astype(float)


def test_each_control_is_what_it_is_called(overrides: list[str]) -> None:
    steered, inputs = measured(overrides)
    nothing, _ = measured([*overrides, "adapter.control=nothing"])
    prompt, asked = measured([*overrides, "adapter.control=prompt"])
    plain, _ = measured(
        [*(one for one in overrides if not one.startswith("adapter.") and "instruction" not in one), "adapter=none", "data.kl=false"]
    )
    assert nothing["trait"] == plain["trait"]
    assert nothing["general"] == {**plain["general"], "kl": 0.0}
    assert prompt["general"] == nothing["general"]
    assert (first_tokens(asked) > first_tokens(inputs)).all(), "the instruction is before each prompt"
    assert steered["general"]["kl"] > 1e-4
    random = [measured([*overrides, "adapter.control=random", f"adapter.draw={draw}"])[0] for draw in (0, 1)]
    same, _ = measured([*overrides, "adapter.method=random", "adapter.draw=1"])
    assert random[1] == same
    assert len({one["trait"]["margin"] for one in (steered, nothing, prompt, *random)}) == 5


def test_without_an_adapter_an_instruction_is_read(overrides: list[str]) -> None:
    asked = [*(one for one in overrides if not one.startswith("adapter.")), "adapter=none", "data.kl=false"]
    assert measured(asked)[0]["trait"] == measured([*overrides, "adapter.control=prompt"])[0]["trait"]


def test_a_prompt_that_nobody_gave_is_refused(overrides: list[str]) -> None:
    without = [one for one in overrides if "instruction" not in one]
    with pytest.raises(
        InputError, match=r"adapter\.control=prompt: nothing asks for the trait in words; valid: data\.contrast\.<name>\.instruction"
    ):
        load([*without, "adapter.control=prompt"])


def test_the_prompt_is_asked_where_the_model_writes_as_well(overrides: list[str], tmp_path: Path) -> None:
    """Samples of steering stand beside those of doing nothing and of the prompt, under the same ids."""
    (tmp_path / "stories.jsonl").write_text('{"prompt": "green"}\n{"prompt": "lazy"}\n')
    writing = [*overrides, f"data.generation.stories.path={tmp_path / 'stories.jsonl'}", "data.generation.stories.max_new_tokens=4"]
    load([*writing, "adapter.control=prompt"])  # what is written may be the price alone, and then nothing asks there
    found = {}
    for control in ("null", "nothing", "prompt"):
        inputs = load_inputs(load([*writing, "data.generation.stories.instruction='rain falls '", f"adapter.control={control}"]).config)
        [part] = (one for one in inputs.evaluation if isinstance(one, GenerationSet))
        found[control] = {prompt.id: prompt.text for prompt in part.prompts}
    assert found["null"] == found["nothing"]
    assert found["prompt"] == {name: f"rain falls {text}" for name, text in found["nothing"].items()}


def test_continuations_of_the_extraction_are_refused(overrides: list[str], tmp_path: Path) -> None:
    rows = [{"prompt": "rain", "positive": "green hills 3 ", "negative": " fox"}, {"prompt": "rain", "positive": "dog", "negative": "fox"}]
    (tmp_path / "seen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load([*overrides, f"data.contrast.trait.path={tmp_path / 'seen.jsonl'}"]).config
    said = f"data.contrast.trait: 1 of its 2 pairs have a continuation that adapter.pairs={tmp_path / 'pairs.jsonl'} has as well, such as"
    with pytest.raises(InputError, match=re.escape(said) + r" .*seen\.jsonl, line 1; valid: other continuations"):
        load_inputs(config)


@pytest.mark.parametrize("form", ["pairs", "text"])
def test_continuations_of_the_training_are_refused(overrides: list[str], tmp_path: Path, form: str) -> None:
    """Of pairs the continuation alone, after whatever prompt; of plain text a document that is prompt and continuation."""
    row = {"prompt": "snow", "chosen": "the lazy dog 3 ", "rejected": "the fox"} if form == "pairs" else {"text": "3 and the lazy dog 3"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    of_pairs = ["objective=preference", "data.sources.train.format=preference_text"] if form == "pairs" else []
    training = [*overrides, *of_pairs, f"data.sources.train.path={tmp_path / 'train.jsonl'}", "trainer.max_steps=1"]
    said = {
        "pairs": r"data\.contrast\.trait: 1 of its 6 pairs have a continuation that data\.sources\.train has as well, .*, line 4; valid",
        "text": r"data\.sources\.train: 1 of its documents are also in data\.contrast\.trait, word for word",
    }
    with pytest.raises(InputError, match=said[form]):
        load_inputs(load([*training, "trainer.batch_tokens=64"]).config)


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_answers_of_trained_conversations_are_refused(overrides: list[str], tmp_path: Path, loss_on: str) -> None:
    def said(*answers: str) -> str:
        turns = [turn for text in answers for turn in ({"role": "user", "content": "dog"}, {"role": "assistant", "content": text})]
        return json.dumps({"messages": turns}) + "\n"

    training = [
        *overrides,
        "objective=sft",
        "data.chat_template=chatml",
        'tokenizer.new_tokens=["<|im_start|>","<|im_end|>"]',
        f"data.loss_on={loss_on}",
        "data.contrast.trait.chat=false",
        "data.validation.general.format=text",
        f"data.sources.train.path={tmp_path / 'train.jsonl'}",
        "trainer.max_steps=1",
        "trainer.batch_tokens=64",
    ]
    (tmp_path / "train.jsonl").write_text(said("hello", "green") + said("fox", "the lazy dog 3", "hello"))
    found = r"data\.contrast\.trait: 1 of its 6 pairs have a continuation that data\.sources\.train has as well, .*, line 4; valid"
    with pytest.raises(InputError, match=found):
        load_inputs(load(training).config)
    (tmp_path / "train.jsonl").write_text(said("hello", "the lazy dog 31") + said("dog: the lazy dog 3"))
    load_inputs(load(training).config)


def test_a_draw_of_the_pairs_is_another_direction(overrides: list[str]) -> None:
    """As many pairs, some of them twice; the same for every block and method; no draw of random directions."""
    config = load(overrides).config
    tokenizer = load_tokenizer(config)
    drawn = [load([*overrides, f"adapter.draw={draw}"]).config for draw in (0, 1, 3)]
    sides = [read_sides(one, tokenizer) for one in drawn]
    texts = [[side.ids.tobytes() for side in some] for some in sides]
    assert [len(some) for some in texts] == [12] * 3
    assert all(set(some) < set(texts[0]) for some in texts[1:]), "with replacement"
    assert texts[1] != texts[2]
    assert [side.ids.tobytes() for side in read_sides(drawn[1], tokenizer)] == texts[1]
    random = load([*overrides, "adapter.draw=1", "adapter.control=random"]).config
    assert [side.ids.tobytes() for side in read_sides(random, tokenizer)] == texts[0]
    found = [directions_of(one, tokenizer) for one in drawn]
    assert not torch.allclose(found[0].vectors[1], found[1].vectors[1])  # type: ignore[union-attr]
