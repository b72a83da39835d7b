"""objective=sft, the whole way from a file of conversations to the loss of a step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.data.training_data import TrainingData
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml

WORDS = ["rain", "falls", "on", "green", "hills", "while", "the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]


@pytest.fixture
def overrides(tmp_path: Path, chat_tokenizer_directory: Path) -> list[str]:
    """Conversations of one to three turns, and a Llama of two layers."""
    rows = []
    for number in range(60):
        messages = [{"role": role, "content": " ".join(WORDS[(number + turn) % 9 :][: 1 + (number * (turn + 2)) % 6])}
                    for turn, role in enumerate(("user", "assistant") * (1 + number % 3))]  # fmt: skip
        rows.append({"messages": messages})
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "objective=sft",
        f"data.sources.chat.path={path}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "data.context_length=128",
        "data.validation.chat={source: chat, share: 0.2}",
        f"tokenizer.path={chat_tokenizer_directory}",
        *(f"model.{shape}" for shape in ("hidden_size=32", "intermediate_size=64", "layers=2", "heads=2", "max_context=128")),
        *("trainer=cpu", "trainer.max_steps=2", "trainer.batch_tokens=512", "trainer.threads=1", "trainer.log_every_steps=1"),
        "tracking=none",
    ]


def first_loss(config: Config, run: RunDirectory) -> float:
    from tests.training.runs import train_here

    run.path.mkdir(parents=True)
    write_yaml(run.config, to_plain(config))
    result = train_here(run)
    rows = {row["step"]: row for row in run.metrics.rows()}
    assert result.state == "complete"
    assert rows[0]["val/chat/loss"] > 0
    loss = rows[1]["train/loss"]
    assert isinstance(loss, float)
    return loss


@pytest.mark.slow
@pytest.mark.parametrize("choice", [["data.packing=best_fit"], ["data.packing=best_fit", "trainer.micro_batch_size=1"]])
@pytest.mark.parametrize("loss_on", ["assistant", "last_assistant"])
def test_the_loss_of_a_step_is_over_its_trained_tokens(choice: list[str], loss_on: str, overrides: list[str], tmp_path: Path) -> None:
    import torch

    from harness.models.language_model import build_model
    from harness.models.tokenizer import load_tokenizer
    from tests.support.datasets import training_data

    config = load([*overrides, *choice, f"data.loss_on={loss_on}"]).config
    tokenizer = load_tokenizer(config)
    model = build_model(config.model, tokenizer, seed=config.seed)
    data = training_data(config.data, tokenizer, seed=config.seed, documents="conversations")
    (source,) = data.sources
    assert source.documents.trained is not None
    total, count = 0.0, 0
    _, rows = data.order.rows(0, 4)
    # By hand: each conversation by itself, the text found in it again.
    offsets = source.packing.row_offsets
    documents = [document for row in rows.tolist() for document in source.packing.piece_document[offsets[row] : offsets[row + 1]].tolist()]
    assert len(documents) > 4, "packed"
    assert source.packing.documents_cut == 0
    for document in documents:
        ids = source.documents.tokens[source.documents.offsets[document] : source.documents.offsets[document + 1]].astype(np.int64)
        expected = answer_targets(tokenizer, ids.tolist(), last_only=loss_on == "last_assistant")
        with torch.no_grad():
            log_probabilities = model(input_ids=torch.from_numpy(ids)[None]).logits[0].log_softmax(dim=-1)
        total -= sum(float(log_probabilities[at - 1, ids[at]]) for at in expected)
        count += len(expected)
    assert first_loss(config, RunDirectory(tmp_path / "run")) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.slow
def test_the_tokenizer_is_exported_with_the_template_of_the_run(overrides: list[str], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from harness.data.chat.template import plain_jinja, template_source
    from harness.training.export import export

    run = RunDirectory(tmp_path / "run")
    first_loss(load([*overrides, "data.chat_template=llama3", "trainer.max_steps=1"]).config, run)
    export(run, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == plain_jinja(template_source("llama3", None)[0], {})


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora", "lora and prompt"])
def test_control_tokens_that_a_template_needs_are_added_trained_and_exported(
    adapter: str, overrides: list[str], tmp_path: Path, tokenizer_directory: Path
) -> None:
    """With a tokenizer and a model that have none of them; the assistant's turns then end in one, where generation stops."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.training.export import export
    from tests.support.corpus import tiny_model

    base = tiny_model(tmp_path / "base", tokenizer_directory, context=256)
    plain = [item for item in overrides if not item.startswith(("tokenizer.", "model."))]
    plain += ["model=pretrained", f"model.path={base}", "data.chat_template=chatml"]
    choice = {"none": [], "lora": ["adapter=lora"], "lora and prompt": ["adapter=lora", "adapter.tokens=2"]}[adapter]
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(InputError, match=r'the tokens added: tokenizer\.new_tokens=\["<\|im_end\|>", "<\|im_start\|>"\]'):
        first_loss(load([*plain, *choice]).config, RunDirectory(tmp_path / "refused"))
    first_loss(load([*plain, *choice, 'tokenizer.new_tokens=["<|im_end|>", "<|im_start|>"]']).config, run)
    export(run, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert stop == len(AutoTokenizer.from_pretrained(base))
    assert model.generation_config.eos_token_id[0] == stop
    text = tokenizer.apply_chat_template([{"role": "user", "content": "rain"}], tokenize=False, add_generation_prompt=True)
    assert text.removeprefix("<|prompt_0|><|prompt_1|>").startswith("<|im_start|>user\nrain<|im_end|>")
    assert text.startswith("<|prompt_0|>") == (adapter == "lora and prompt")
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert stop in ids
    assert torch.isfinite(model(input_ids=ids).logits).all()


def answer_targets(tokenizer: Any, ids: list[int], *, last_only: bool) -> list[int]:
    """Positions of what stands between <|im_start|>assistant and <|im_end|>, the latter included."""
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    header = tokenizer.encode("assistant\n", add_special_tokens=False)
    turns: list[list[int]] = []
    for at, token in enumerate(ids):
        if token == start and ids[at + 1 : at + 1 + len(header)] == header:
            first = at + 1 + len(header)
            turns.append(list(range(first, ids.index(end, first) + 1)))
    return [at for turn in (turns[-1:] if last_only else turns) for at in turn]


def test_rows_without_a_trained_token_are_left_out(tmp_path: Path, overrides: list[str], caplog: pytest.LogCaptureFixture) -> None:
    from harness.models.tokenizer import load_tokenizer
    from harness.training.plan import build_plan
    from tests.support.datasets import training_data

    flagged = [{"prompt": f"{number}", "completion": [{"role": "assistant", "content": "x", "train": number == 0}]} for number in range(16)]
    path = tmp_path / "flagged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in flagged))
    options = [f"data.sources.chat.path={path}", "~data.validation.chat", "data.packing=padded", "data.loss_on=flagged"]
    options = [option for option in (*overrides, *options) if "validation" not in option]
    config = load([*options, "trainer.max_steps=2", "trainer.batch_tokens=128"]).config
    with caplog.at_level("INFO", "harness"):
        data = training_data(config.data, load_tokenizer(config), seed=0, documents="conversations")
    assert "data.sources.chat: 15 of 16 rows hold no token that is trained, and are left out" in caplog.messages
    assert data.total().rows == 1
    assert build_plan(config, data).targets.tolist() == [2, 2]
    whole = training_data(replace(config.data, loss_on="assistant"), load_tokenizer(config), seed=0, documents="conversations")
    assert (whole.total().rows, whole.total().tokens_kept) == (16, 1.0)
    assert caplog.text.count("with train (or weight) 0 is trained by data.loss_on=assistant; flagged goes by them") == 1


@pytest.mark.parametrize("packing", ["best_fit", "padded", "concat"])
def test_answers_that_are_cut_off_are_said(packing: str, tmp_path: Path, overrides: list[str], caplog: pytest.LogCaptureFixture) -> None:
    from harness.models.tokenizer import load_tokenizer
    from tests.support.datasets import training_data

    rows = [{"prompt": f"{'How many boats are there? ' * 40}{day}", "completion": f"{day}."} for day in range(8)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": "One?", "completion": "Yes."}) + "\n")
    options = [option for option in overrides if "validation" not in option]

    def data_of(files: list[str], overflow: str) -> TrainingData:
        paths = ",".join(f"{tmp_path}/{name}.jsonl" for name in files)
        more = [f"data.sources.chat.path=[{paths}]", f"data.packing={packing}", f"data.overflow={overflow}", "data.context_length=64"]
        config = load([*options, *more, "trainer.max_steps=1", "trainer.batch_tokens=64"]).config
        return training_data(config.data, load_tokenizer(config), seed=0, documents="conversations")

    for files in (["long"], ["long", "one"]):
        split = data_of(files, "split")
        assert all(source.row_targets.all() for source in split.sources)
    if packing == "concat":  # never cuts anything off
        return
    said = r"trained tokens of all its 8 conversations were cut off \(data\.overflow=truncate at data\.context_length=64\); valid: a larger"
    with pytest.raises(InputError, match=said):
        data_of(["long"], "truncate")
    caplog.clear()
    assert data_of(["long", "one"], "truncate").total().rows == 1
    assert any("of 8 of its 9 conversations were cut off" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.loss_on=all", "data.loss_on has no effect with objective.name=cpt: only sft, distill, preference reads it"),
        ("data.sources.chat.format=alpaca", "data.sources.chat.format has no effect with objective.name=cpt"),
    ],
)
def test_keys_of_conversations_are_only_for_sft(override: str, message: str, overrides: list[str]) -> None:
    load([*overrides, override])
    with pytest.raises(InputError, match=message):
        load([*overrides[1:], override])


def test_a_misspelt_choice_is_refused(overrides: list[str]) -> None:
    with pytest.raises(InputError, match=r"data\.loss_on=asistant.*one of all, assistant"):
        load([*overrides, "data.loss_on=asistant"])
