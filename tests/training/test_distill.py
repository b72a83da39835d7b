"""objective=distill, from a teacher on disk to a student, live and from samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import Config
from harness.data.dataset import PackedRows
from harness.models.language_model import build_model
from harness.models.tokenizer import load_tokenizer
from harness.runs.directory import RunDirectory
from harness.runs.result import read_result
from harness.training.export import export
from harness.training.inputs import load_inputs
from harness.training.module import TrainingModule
from harness.training.objectives.build import build_objective
from harness.training.plan import build_plan
from harness.training.sample_teacher import with_teacher_samples
from tests.support import corpus
from tests.support.command import run_harness
from tests.support.corpus import TinyText
from tests.support.datasets import training_data
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_run, final_state, rows_without_speed, train_here


def loss_and_gradients(config: Config) -> tuple[float, dict[str, torch.Tensor]]:
    """Of the first step, per predicted token."""
    tokenizer = load_tokenizer(config)
    data = training_data(config.data, tokenizer, seed=config.seed, documents=build_objective(config).documents)
    plan = build_plan(config, data)
    rows = plan.data if config.objective.teacher_samples is None else with_teacher_samples(config, plan.data, tokenizer)
    model, objective = build_model(config.model, tokenizer, seed=config.seed), build_objective(config)
    objective.load(model, tokenizer)
    module = TrainingModule(model, config, plan, objective)
    batch = PackedRows(rows).__getitems__(list(range(plan.batch_size.full)))
    loss = objective.loss_sum(model, batch) / float(plan.targets[0])
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "objective",
    [
        ["objective=cpt"],
        ["objective=distill", "objective.divergence=forward_kl", "objective.temperature=2", "objective.alpha=0.3"],
        ["objective=distill", "objective.divergence=reverse_kl"],
        ["objective=distill", "objective.divergence=jsd", "objective.beta=0.2"],
        ["objective=distill", "objective.teacher_samples=5", "objective.alpha=0.5"],
    ],
)
def test_the_loss_in_chunks_is_the_loss_at_once(tiny_text: TinyText, tiny_model: Path, objective: list[str]) -> None:
    teacher = [f"objective.teacher={tiny_model}"] if "objective=distill" in objective else []
    overrides = [*tiny_text.overrides, *objective, *teacher, "seed=3"]  # other weights than the teacher's
    whole, gradients = loss_and_gradients(load(overrides).config)
    chunked, others = loss_and_gradients(load([*overrides, "trainer.loss_chunk_tokens=13"]).config)
    assert chunked == pytest.approx(whole, rel=1e-6)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")


def test_alpha_0_is_cross_entropy_and_many_samples_are_the_live_teacher(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_model, teacher)
    weights = load_file(teacher / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 15  # far from uniform, and from the student
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    distill = [*tiny_text.overrides, "objective=distill", f"objective.teacher={teacher}", "objective.temperature=1.5", "seed=3"]
    plain, _ = loss_and_gradients(load([*tiny_text.overrides, "seed=3"]).config)
    data_alone, _ = loss_and_gradients(load([*distill, "objective.alpha=0"]).config)
    assert data_alone == pytest.approx(plain, rel=1e-6)
    live, gradients = loss_and_gradients(load(distill).config)
    sampled, estimates = loss_and_gradients(load([*distill, "objective.teacher_samples=2000"]).config)
    assert sampled == pytest.approx(live, rel=1e-3)
    for name, gradient in gradients.items():
        assert float((estimates[name] - gradient).norm()) < 0.01 * float(gradient.norm()), name


def test_only_trained_tokens_of_conversations_are_distilled(tiny_text: TinyText, tmp_path: Path) -> None:
    """And text is told from conversations by its rows."""
    teacher = corpus.tiny_model(tmp_path / "teacher", tiny_text.tokenizer, context=128)
    chat = tmp_path / "chat.jsonl"
    turns = [{"role": role, "content": f"{word} {role}"} for word, role in zip(corpus.DOMAIN_WORDS, ["user", "assistant"] * 6, strict=True)]
    chat.write_text("".join(json.dumps({"messages": turns[2 * n : 2 * n + 2]}) + "\n" for n in range(6)))
    overrides = [override for override in tiny_text.overrides if "validation" not in override and "general" not in override]
    overrides += [f"data.sources.domain.path={chat}", "data.replay_share=0", "data.chat_template=alpaca", "data.packing=padded"]
    overrides += ["data.context_length=128", "model.max_context=128", "trainer.batch_tokens=512", f"data.cache_dir={tmp_path / 'cache'}"]
    overrides += ["objective=distill", f"objective.teacher={teacher}", "objective.teacher_samples=3"]
    config = load(overrides).config
    tokenizer = load_tokenizer(config)
    data = training_data(config.data, tokenizer, seed=0, documents="either")
    (source,) = data.sources
    trained = source.documents.trained
    assert trained is not None
    assert 0 < trained.sum() < len(trained)
    sampled = with_teacher_samples(config, data, tokenizer)
    batch = PackedRows(sampled).__getitems__([0, 1, 2, 3])
    predicted = batch["labels"] != -100
    assert int(predicted.sum()) == int(sampled.targets_of(build_plan(config, data).batch_size, 1)[0])
    # Every trained position has its samples, and no other has.
    assert bool((batch["teacher_entropy"][predicted] > 0).all())
    assert not batch["teacher_samples"][~predicted].any()
    assert not batch["teacher_entropy"][~predicted].any()
    text = load([*tiny_text.overrides, "objective=distill", f"objective.teacher={teacher}"]).config
    assert training_data(text.data, tokenizer, seed=0, documents="either").sources[0].documents.trained is None


def test_samples_do_not_depend_on_packing_or_batches_and_are_drawn_once(
    tiny_text: TinyText, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = [*tiny_text.overrides, "objective=distill", f"objective.teacher={tiny_model}", "objective.teacher_samples=3"]
    entries = {}
    for name, override in (("a", "data.packing=best_fit"), ("b", "data.packing=padded"), ("c", "trainer.evaluation_batch_tokens=64")):
        config = load([*base, override, f"data.cache_dir={tmp_path / name}"]).config
        tokenizer = load_tokenizer(config)
        data = training_data(config.data, tokenizer, seed=config.seed)
        entries[name] = with_teacher_samples(config, data, tokenizer).sources[0].teacher
    a, b, c = entries.values()
    assert a is not None
    assert b is not None
    assert c is not None
    assert a.directory.name == b.directory.name == c.directory.name
    assert (a.tokens == b.tokens).all()
    assert (a.tokens == c.tokens).mean() > 0.999  # rounding may move a draw
    monkeypatch.setattr("harness.training.sample_teacher.load_teacher", None)
    config = load([*base, f"data.cache_dir={tmp_path / 'a'}"]).config
    again = with_teacher_samples(config, data, tokenizer).sources[0].teacher
    assert again is not None
    assert again.directory == a.directory
    (a.directory / "samples.bin").write_bytes(b"torn")
    with pytest.raises(TypeError):  # drawn anew
        with_teacher_samples(config, data, tokenizer)


def test_a_short_run_draws_what_its_rows_need_and_a_longer_one_the_rest(
    tiny_text: TinyText, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = [*tiny_text.overrides, "objective=distill", f"objective.teacher={tiny_model}", "objective.teacher_samples=3"]
    config = load([*base, f"data.cache_dir={tmp_path}", "data.replay_share=0.5"]).config
    tokenizer = load_tokenizer(config)
    data = training_data(config.data, tokenizer, seed=config.seed)

    def drawn(rows: int | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        entries = [source.teacher for source in with_teacher_samples(config, data, tokenizer, rows=rows).sources]
        return [np.array(entry.drawn) for entry in entries if entry], [np.array(entry.tokens) for entry in entries if entry]

    monkeypatch.setattr("harness.training.sample_teacher.SampleFiles.mark", lambda self: None)  # killed before its end
    assert not any(mask.any() for mask in drawn(4)[0])
    monkeypatch.undo()
    few, first = drawn(4)
    rows = PackedRows(with_teacher_samples(config, data, tokenizer, rows=4)).__getitems__([0, 1, 2, 3])
    assert sum(int(mask.sum()) for mask in few) == int((rows["labels"] != -100).sum())
    assert bool((rows["teacher_entropy"][rows["labels"] != -100] > 0).all())
    more, second = drawn(None)
    assert sum(int(mask.sum()) for mask in more) == data.total().trained_tokens
    for mask, one, other in zip(few, first, second, strict=True):
        assert (one[mask] == other[mask]).all(), "what is drawn stays as it is"
    monkeypatch.setattr("harness.training.sample_teacher.load_teacher", None)
    drawn(7)


def test_harness_data_has_the_samples_of_a_run_drawn(
    tiny_text: TinyText, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*tiny_text.overrides, "objective=distill", f"objective.teacher={tiny_model}", "objective.teacher_samples=3"]
    overrides += [f"data.cache_dir={tmp_path}", "trainer.max_steps=2"]
    found = run_harness("data", "--json", *overrides, cwd=tmp_path)
    assert found.rc == 0, found
    config = load(overrides).config
    inputs = load_inputs(config)
    assert json.loads(found.stdout)["teacher"] == {"samples": 3, "positions": int(inputs.plan.targets.sum())}
    monkeypatch.setattr("harness.training.sample_teacher.load_teacher", None)
    with_teacher_samples(config, inputs.plan.data, inputs.tokenizer, rows=inputs.plan.rows)


@pytest.mark.slow
@pytest.mark.parametrize("samples", ["null", "4"])
def test_a_distillation_resumes_to_the_last_bit_and_exports_the_student(
    new_run: NewRun, tiny_model: Path, tmp_path: Path, samples: str
) -> None:
    overrides = ["objective=distill", f"objective.teacher={tiny_model}", f"objective.teacher_samples={samples}", "seed=3", *EXACT_RESUME]
    _, whole = new_run("whole", *overrides)
    _, stopped = new_run("stopped", *overrides)
    train_here(whole)
    assert train_here(stopped, stop_after=5).state == "waiting"
    train_here(stopped)
    assert_same_run(whole, stopped)
    assert "teacher" in read_result(whole).fingerprints
    state = final_state(whole)["state_dict"]
    assert all(name.startswith("model.") for name in state)
    export(whole, tmp_path / "out")
    exported = load_file(tmp_path / "out" / "model.safetensors")
    torch.testing.assert_close(exported["model.norm.weight"], state["model.model.norm.weight"], rtol=0, atol=0)


@pytest.mark.slow
def test_another_teacher_is_another_run(new_run: NewRun, tiny_text: TinyText, tmp_path: Path) -> None:
    teacher = corpus.tiny_model(tmp_path / "teacher", tiny_text.tokenizer)
    _, run = new_run("run", "objective=distill", f"objective.teacher={teacher}")
    assert train_here(run, stop_after=2).state == "waiting"
    weights = load_file(teacher / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, teacher / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="the teacher changed since this run began"):
        train_here(run)


@pytest.mark.slow
def test_a_student_comes_closer_to_the_data_by_learning_from_a_trained_teacher(new_run: NewRun, tmp_path: Path) -> None:
    """From the teacher alone: no token of the data enters the loss."""
    _, teacher = new_run("teacher", "trainer.max_steps=60", "optim.lr=1e-2", "trainer.log_every_steps=60")
    best = train_here(teacher).metrics["val/domain/loss"]
    export(teacher, tmp_path / "teacher")
    _, student = new_run(
        "student",
        "objective=distill",
        f"objective.teacher={tmp_path / 'teacher'}",
        *("model.hidden_size=16", "model.layers=1", "trainer.max_steps=60", "optim.lr=1e-2", "trainer.log_every_steps=60"),
    )
    train_here(student)
    rows = rows_without_speed(student)
    before, after = rows[0]["val/domain/loss"], rows[-1]["val/domain/loss"]
    assert after < before - 0.5 * (before - best)


def test_a_teacher_of_another_vocabulary_is_refused(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> None:
    from harness.data.byte_bpe import train_byte_bpe

    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    train_byte_bpe(["quite other words, here and there, without end"] * 20, 280, other)
    config = load([*tiny_text.overrides, "objective=distill", f"objective.teacher={other}"]).config
    tokenizer = load_tokenizer(config)
    with pytest.raises(
        InputError, match=rf"objective\.teacher={other}: its tokenizer and the student's differ from id \d+ on .*the text has"
    ):
        build_objective(config).prepare(training_data(config.data, tokenizer, seed=0), tokenizer)


@pytest.mark.parametrize("which", ["teacher", "student"])
@pytest.mark.parametrize("samples", [None, 5])
def test_tokens_that_no_text_has_may_be_anothers(
    which: str, samples: int | None, tiny_text: TinyText, tiny_model: Path, tmp_path: Path
) -> None:
    """As where one has a padding token, or control tokens for which nobody made rows, and the other has not."""
    with_more = tmp_path / "more"
    shutil.copytree(tiny_model, with_more)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<|pad|>", "<|tool|>"], special_tokens=True)
    tokenizer.save_pretrained(with_more)
    base = [*tiny_text.pretrained(tiny_model), "objective=distill", f"objective.teacher={tiny_model}", f"data.cache_dir={tmp_path}"]
    base += [f"objective.teacher_samples={samples or 'null'}"]
    same = loss_and_gradients(load(base).config)
    key = "objective.teacher" if which == "teacher" else "tokenizer.path"
    other = loss_and_gradients(load([*base, f"{key}={with_more}"]).config)
    assert other[0] == same[0]
    assert all((other[1][name] == gradient).all() for name, gradient in same[1].items())


def test_a_token_for_which_the_teacher_has_no_row_is_refused(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "pad.jsonl").write_text(json.dumps({"text": "the river <|pad|> runs"}) + "\n")
    config = load(
        [
            *(option for option in tiny_text.pretrained(tiny_model) if "general" not in option and "validation" not in option),
            f"data.sources.domain.path={tmp_path}/pad.jsonl",
            "data.split_special_tokens=false",
            "data.replay_share=0",
            "objective=distill",
            f"objective.teacher={tiny_model}",
            "tokenizer.new_tokens=['<|pad|>']",
        ]
    ).config
    tokenizer = load_tokenizer(config)
    with pytest.raises(
        InputError, match=r"objective\.teacher=.*differ from id \d+ on \(None and '<\|pad\|>'\), and the text has the token '<\|pad"
    ):
        build_objective(config).prepare(training_data(config.data, tokenizer, seed=0), tokenizer)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=distill"], r"objective\.teacher: required with objective\.name=distill"),
        (["objective=distill", "objective.teacher=/nowhere"], r"objective\.teacher=/nowhere: no such directory"),
        (["objective.teacher=x/y"], r"objective\.teacher has no effect with objective\.name=cpt: only distill reads it"),
        (
            ["objective=distill", "objective.teacher=x/y", "objective.teacher_samples=4", "objective.divergence=jsd"],
            r"objective\.teacher_samples=4.*not objective\.divergence=jsd",
        ),
        (["objective=distill", "objective.teacher=x/y", "objective.temperature=0"], r"objective\.temperature=0.*number > 0"),
    ],
)
def test_wrong_values(tiny: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load([*tiny, *overrides])


def test_a_run_directory_is_not_a_teacher(tiny: list[str], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    with pytest.raises(InputError, match=r"objective\.teacher=.*not a model directory, no config\.json in it"):
        load([*tiny, "objective=distill", f"objective.teacher={run.path}"])
