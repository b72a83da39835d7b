"""harness generate and harness chat, as they are typed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.generation.part_file import PartFile
from harness.generation.rows import NonFiniteLogitsError
from tests.support.command import Done, call_harness
from tests.support.corpus import TinyText
from tests.support.endless import without_end_token
from tests.training.conftest import NewRun, new_run
from tests.training.runs import train_here

__all__ = ["new_run"]

PROMPTS = [{"prompt": "the first"}, {"id": "own", "prompt": "a second one"}, {"prompt": "the first"}]
ONE_CPU = ["trainer.accelerator=cpu", "trainer.threads=1"]


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_prompts(folder: Path, *rows: Any) -> Path:
    path = folder / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def generate(what: Path | str, *words: str | Path, cwd: Path) -> Done:
    return call_harness("generate", what, *ONE_CPU, *words, cwd=cwd)


def test_rows_are_by_prompt_and_draw_and_a_repeated_command_goes_on(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts(tmp_path, *PROMPTS)
    words = ("--prompts", "asked.jsonl", "-n", "4", "--max-new-tokens", "8", "--json", "--batch-size", "5", "sampling=top_k")
    done = generate(tiny_model, *words, cwd=tmp_path)
    assert done.rc == 0, done
    out = tmp_path / "asked.generations.jsonl"
    rows = rows_in(out)
    hashed = rows[0]["id"]
    assert [(row["id"], row["draw"]) for row in rows] == [(name, draw) for name in (hashed, "own", f"{hashed}#2") for draw in range(4)]
    assert rows[4]["prompt"] == "a second one"
    assert {len(row["token_ids"]) == row["tokens"] <= 8 for row in rows} == {True}
    said = json.loads(done.stdout)
    assert (said["rows"], said["tokens"], sum(said["finish"].values())) == (12, sum(row["tokens"] for row in rows), 12)

    again = generate(tiny_model, *words, cwd=tmp_path)
    assert (again.rc, json.loads(again.stdout)) == (0, said)
    assert "asked.generations.jsonl: all 12 rows are there already; --restart writes them anew" in again.stderr
    elsewhere = generate(tiny_model, *words, "sampling.seed=1", cwd=tmp_path)
    assert (elsewhere.rc, "whose sampling was other than now" in elsewhere.stderr) == (2, True)
    expected = out.read_bytes()
    out.unlink()
    real = PartFile.append

    def interrupted(part: PartFile, *row: Any) -> None:
        if len(part.finished) == 5:
            raise KeyboardInterrupt
        real(part, *row)

    monkeypatch.setattr(PartFile, "append", interrupted)
    stopped = generate(tiny_model, *words, cwd=tmp_path)
    assert stopped.rc == 1
    assert "stopped: 5 rows are in asked.generations.jsonl.part; the same command goes on" in stopped.stderr
    monkeypatch.undo()
    other = generate(tiny_model, *words, "sampling.seed=1", cwd=tmp_path)
    assert (other.rc, "whose sampling was other than now" in other.stderr) == (2, True)
    went_on = generate(tiny_model, *words, cwd=tmp_path)
    assert went_on.rc == 0, went_on
    assert "5 of 12 rows are there already" in went_on.stderr
    assert out.read_bytes() == expected
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".asked.generations.jsonl.header.json",
        "asked.generations.jsonl",
        "asked.jsonl",
    ]


def test_prompts_of_the_command_line_are_answered_on_stdout(tiny_model: Path, tmp_path: Path) -> None:
    done = generate(tiny_model, "--prompt", "the", "--prompt", "a b", "--json", "--max-new-tokens", "4", cwd=tmp_path)
    assert done.rc == 0, done
    rows = json.loads(done.stdout)["generations"]
    assert [row["prompt"] for row in rows] == ["the", "a b"]
    shown = generate(tiny_model, "--prompt", "the", "--prompt", "a b", "--max-new-tokens", "4", cwd=tmp_path)
    assert "── 'the'\n" in shown.stdout
    assert not list(tmp_path.iterdir())


def test_prompts_come_from_stdin_a_line_each(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("the\n\na b\n", '{"prompt": "the"}\n{"prompt": "a b"}\n'):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        done = generate(tiny_model, "--json", "--max-new-tokens", "4", cwd=tmp_path)
        assert [row["prompt"] for row in json.loads(done.stdout)["generations"]] == ["the", "a b"]


def test_stdin_that_is_not_utf8_is_refused_by_name(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (b"caf\xe9\n", b'{"prompt": "caf\xe9"}\n'):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        done = generate(tiny_model, cwd=tmp_path)
        assert (done.rc, done.stderr.count("error: "), "stdin" in done.stderr, "/tmp" in done.stderr) == (2, 1, True, False), done


@pytest.mark.parametrize(
    "kind", [[], ["adapter=lora", "adapter.rank=2"], ["adapter=soft_prompt", "adapter.tokens=3", "data.context_length=16"]]
)
def test_a_run_writes_what_its_export_writes(new_run: NewRun, tmp_path: Path, kind: list[str]) -> None:
    _, run = new_run("trained", *kind, "optim.ema_decay=0.5", "optim.lr=1e-1")
    train_here(run)
    words = ("--prompt", "the first", "-n", "6", "--max-new-tokens", "8", "--json", "sampling=min_p", "sampling.min_p=0.01")
    own = generate(run.path, *words, cwd=tmp_path)
    assert own.rc == 0, own
    assert call_harness("export", run.path, "out", cwd=tmp_path).rc == 0
    exported = generate("out", *words, cwd=tmp_path)
    assert exported.rc == 0, exported
    texts = [[row["text"] for row in json.loads(done.stdout)["generations"]] for done in (own, exported)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["-n", "2", "sampling=greedy"], r"-n 2: with sampling.temperature=0 (sampling=greedy) all"),
        (["--stop", "", "--out", "o.jsonl"], "stop='': an empty string is in every text"),
        (["--prompts", "none.jsonl"], "--prompts none.jsonl: no such file"),
        (["--prompts", "empty.txt"], "no prompt in empty.txt"),
        (["--prompts", "twice.jsonl"], "twice.jsonl, line 2: the id 'x' is that of twice.jsonl, line 1, too"),
        (["--prompts", "other.jsonl"], "no prompt; fields there: words"),
        (["--prompt", "a " * 500], "tokens, which leave no room in the model's context"),
        (["data.chat_template=chatml"], "the tokenizer has no token <|im_end|>"),
        (["sampling=nothing"], "unknown choice for sampling="),
        (["--out", "no/where.jsonl"], "no such directory"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_message(tiny_model: Path, tmp_path: Path, words: list[str], problem: str) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "twice.jsonl").write_text('{"id": "x", "prompt": "a"}\n{"id": "x", "prompt": "b"}\n')
    (tmp_path / "other.jsonl").write_text('{"words": "x"}\n')
    before = sorted(tmp_path.iterdir())
    done = generate(tiny_model, *([] if "--prompts" in words else ["--prompt", "the"]), *words, cwd=tmp_path)
    assert (done.rc, done.stderr.count("error: ")) == (2, 1), done
    assert problem in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_without_an_end_token_is_asked_for_a_stop_string(tiny_model: Path, tmp_path: Path) -> None:
    without_end_token(tiny_model, tmp_path / "endless")
    words = ("--prompt", "the", "--max-new-tokens", "4", "--out", "o.jsonl")
    refused = generate("endless", *words, cwd=tmp_path)
    assert (refused.rc, refused.stderr.count("error: ")) == (2, 1), refused
    assert "no text would end by itself; valid: a stop string (--stop), " in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["endless"]
    chat = call_harness("chat", "endless", *ONE_CPU, cwd=tmp_path)
    assert (chat.rc, "valid: a stop string (--stop), " in chat.stderr) == (2, True), chat
    assert generate("endless", *words, "--stop", "e", cwd=tmp_path).rc == 0


def test_lines_of_a_chat_go_on_with_a_text_and_commands_change_it(
    tiny_model: Path, tiny_text: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["/sampling", "the first", "/save one.jsonl", "/undo", "/undo", "/sampling temperature=0.5", "/sampling top_p=7"]
    lines += [
        "/system x",
        "/what",
        "/reset",
        "a b",
        "/save two.jsonl",
        "/save two.jsonl",
        "/sampling top_k=7 min_p=0.2",
        "/exit",
        "never read",
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    done = call_harness("chat", tiny_model, *ONE_CPU, "--max-new-tokens", "5", cwd=tmp_path)
    assert done.rc == 0, done
    one, two = (json.loads((tmp_path / name).read_text())["text"] for name in ("one.jsonl", "two.jsonl"))
    assert done.stdout == f"{one.removeprefix('the first')}\n{two.removeprefix('a b')}\n"
    for said in (
        "name=min_p  min_p=0.1\n",
        "taken back",
        "nothing was said",
        "name=min_p  temperature=0.5  min_p=0.1\n",
        "sampling.top_p=7: expected",
        "name=min_p  temperature=0.5  top_k=7  min_p=0.2\n",
        "/system: the model has no chat template",
    ):
        assert said in done.stderr, said
    for said in ("/what: no such command", "two.jsonl: is there already"):
        assert f"error: {said}" in done.stderr, said


def test_a_model_whose_logits_are_nan_ends_in_one_message(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nan(*_: Any) -> Any:
        raise NonFiniteLogitsError("the model's logits are NaN")

    monkeypatch.setattr("harness.generation.choice.Choice.tokens", nan)
    done = generate(tiny_model, "--prompt", "the", cwd=tmp_path)
    assert (done.rc, done.stderr.count("error: "), "logits are NaN" in done.stderr) == (1, 1, True), done
    monkeypatch.setattr(sys, "stdin", io.StringIO("the\nthe\n"))
    chat = call_harness("chat", tiny_model, *ONE_CPU, cwd=tmp_path)
    assert (chat.rc, chat.stderr.count("error: the model's logits are NaN")) == (0, 2), chat


@pytest.mark.slow
def test_a_run_and_its_reference_write_side_by_side(new_run: NewRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = new_run("trained", "adapter=lora", "adapter.rank=2", "optim.lr=1e-1")
    train_here(run)
    _, start = new_run("start", "trainer.max_steps=0")
    words = ("-n", "3", "--max-new-tokens", "8", "--json", "sampling=min_p", "sampling.min_p=0.01")
    prompts = ("--prompt", "the first", "--prompt", "a b")
    asked = json.loads(generate(run.path, *prompts, "--beside", "reference", *words, cwd=tmp_path).stdout)["generations"]
    own, its = (json.loads(generate(one.path, *prompts, *words, cwd=tmp_path).stdout)["generations"] for one in (run, start))
    assert [row["text"] for row in own] != [row["text"] for row in its]
    others = [{name: row[name] for name in ("text", "tokens", "token_ids", "finish")} for row in its]
    assert asked == [{**row, "beside": other} for row, other in zip(own, others, strict=True)]

    def from_stdin(*more: str) -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the first\na b\n")))
        return generate(run.path, "--beside", str(start.path), *words, "--out", "o.jsonl", *more, cwd=tmp_path)

    assert from_stdin().rc == 0
    assert rows_in(tmp_path / "o.jsonl") == asked
    again = from_stdin()
    assert (again.rc, "--out o.jsonl: is there already; valid: another file, or --restart" in again.stderr) == (2, True)
    assert from_stdin("--restart").rc == 0


def test_what_stands_beside_is_shown_and_may_be_any_model(tiny_model: Path, tmp_path: Path) -> None:
    words = ("--prompt", "the", "--max-new-tokens", "4", "sampling=greedy")
    alone = generate(tiny_model, *words, cwd=tmp_path).stdout.rstrip("\n")
    done = generate(tiny_model, *words, "--beside", str(tiny_model), cwd=tmp_path)
    assert done.stdout == f"┌ {tiny_model}\n{alone}\n" * 2
    refused = generate(tiny_model, *words, "--beside", "reference", cwd=tmp_path)
    assert (refused.rc, f"--beside reference: {tiny_model} is a model, which has none; valid: a run" in refused.stderr) == (2, True)
