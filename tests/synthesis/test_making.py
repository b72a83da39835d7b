"""harness synth, as a user calls it: the same data set whatever happens on the way."""

from __future__ import annotations

import errno
import json
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.synthesis.directory import SynthDirectory
from harness.synthesis.plan import Plan
from harness.synthesis.recipe import load_recipe
from harness.synthesis.status import answers
from harness.work import synth_worker
from harness.work.synth import begin, make
from tests.support.command import Done, call_harness, run_harness
from tests.support.endless import without_end_token

pytestmark = pytest.mark.usefixtures("one_torch_thread")
Write = Callable[..., Path]


def data(path: Path) -> bytes:
    return (path / "dataset" / "data.jsonl").read_bytes()


def ledger(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "ledger.json").read_text())
    return found


def synth(tmp_path: Path, *words: str | Path) -> Done:
    return call_harness("synth", *words, cwd=tmp_path)


def raw(path: Path) -> list[dict[str, Any]]:
    lines = [line for file in sorted((path / "shards").glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_a_data_set_is_made_and_not_made_twice(recipe: Write, tmp_path: Path) -> None:
    done = synth(tmp_path, recipe(), "--json", "--dir", "made")
    assert done.rc == 0, done
    found = json.loads(done.stdout)
    assert found["state"] == "complete"
    assert found["answers"] == {"written": 16, "asked": 16}
    assert found["funnel"]["draws"] == 16
    made = tmp_path / "made"
    # A model of random weights may end a text before it has begun.
    empty = [json.loads(line)["fields"]["text"] for line in (made / "rejected.jsonl").read_text().splitlines()]
    assert (len(data(made).splitlines()), empty) == (16 - len(empty), [""] * len(empty))
    tokens = [row["tokens"] for row in raw(made)]
    assert found["tokens"] == {"prompt": sum(t[0] for t in tokens), "generated": sum(t[1] for t in tokens), "lost": 0}
    before = data(made), raw(made)
    assert synth(tmp_path, recipe(), "--dir", "made").rc == 0
    assert (data(made), raw(made)) == before
    status = call_harness("status", "made", "--json", cwd=tmp_path)
    assert json.loads(status.stdout) == {**found, "jobs": [], "jobs_trouble": None}


def test_a_preview_keeps_nothing(recipe: Write, tmp_path: Path) -> None:
    done = synth(tmp_path, recipe(), "--preview", "3", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert [row["prompt"] for row in rows] == ["the river", "the river", "the mill"]
    assert not (tmp_path / "runs").exists()
    assert "→" in synth(tmp_path, recipe(), "--preview", "1").stdout


def test_a_teacher_without_an_end_token_is_refused_before_it_costs_anything(recipe: Write, tiny_model: Path, tmp_path: Path) -> None:
    endless = without_end_token(tiny_model, tmp_path / "endless")
    path = recipe(teachers__teacher__model=str(endless))
    done = synth(tmp_path, path, "--dir", "made")
    assert (done.rc, "valid: a stop string (steps.text.stop), " in done.stderr) == (2, True), done
    status = json.loads(call_harness("status", "made", "--json", cwd=tmp_path).stdout)
    assert (status["budget"]["tokens"]["used"], status["budget"]["tokens"]["reserved"], status["tokens"]["lost"]) == (0, 0, 0)
    # Nothing was written there, so the directory takes the recipe that is mended.
    assert synth(tmp_path, path, "steps.text.stop=[e]", "--dir", "made").rc == 0
    done = synth(tmp_path, path, "steps.text.stop=[a]", "--dir", "made")
    assert (done.rc, "holds what another recipe made: steps.text.stop" in done.stderr) == (2, True), done


def worker(directory: SynthDirectory) -> BaseProcess:
    """A worker of a directory that was begun, as a fork of this process, which has imported everything."""
    work = partial(synth_worker.main, directory.path, stopping=lambda: False)
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


@pytest.mark.parametrize("word", ["filters.forbidden=['(']", "decontaminate.against=[none.jsonl]", "filters.schema_path=none.json"])
def test_what_the_stages_cannot_use_is_refused_before_it_costs_anything(recipe: Write, tmp_path: Path, word: str) -> None:
    for mode in (("--dir", "made"), ("--preview", "1")):
        done = synth(tmp_path, recipe(), word, *mode)
        assert (done.rc, word.partition("=")[0] in done.stderr, (tmp_path / "made").exists()) == (2, True, False), done


@pytest.mark.slow
def test_two_workers_that_are_killed_again_and_again_make_the_same_bytes(recipe: Write, tmp_path: Path) -> None:
    path = recipe(shard_rows=4, steps__text__draws=8, steps__text__max_new_tokens=24)
    assert synth(tmp_path, path, "--dir", "whole").rc == 0
    directory = begin(load_recipe(str(path), []), tmp_path / "killed").directory
    kills = 0
    for there in range(4, 64, 6):
        workers = [worker(directory), worker(directory)]
        while answers(directory, 16) < there and any(process.is_alive() for process in workers):
            time.sleep(0.001)
        for process in workers:
            kills += process.is_alive()
            process.kill()
            process.join()
    assert kills >= 10
    done = synth(tmp_path, path, "--dir", "killed")
    assert done.rc == 0, done
    assert data(tmp_path / "killed") == data(tmp_path / "whole")
    ids = [row["id"] for row in raw(tmp_path / "killed")]
    assert len(ids) == len(set(ids)) == 64
    assert not any(shard["reserved"] for shard in ledger(tmp_path / "killed")["shards"].values())


@pytest.mark.slow
def test_a_budget_with_room_for_a_part_has_it_for_the_same_part(recipe: Write, tmp_path: Path) -> None:
    path = recipe(
        shard_rows=4,
        steps__text__draws=8,
        steps__likely={"nll": "teacher"},
        # Of each kill at most four texts of 12 tokens are lost.
        budget={"tokens": 900, "held_back": 0.3},
    )
    assert synth(tmp_path, path, "--dir", "one").rc == 0
    directory = begin(load_recipe(str(path), []), tmp_path / "three").directory
    with directory.changing() as found:
        found.keep_to(load_recipe(str(path), []).config.budget)
    for there in (6, 20, 30):
        workers = [worker(directory) for _ in range(3)]
        while answers(directory, 16) < there and any(process.is_alive() for process in workers):
            time.sleep(0.001)
        workers[there % 3].kill()
        for process in workers if there == 30 else workers[there % 3 :][:1]:
            process.join()
    done = run_harness("synth", path, "--dir", "three", "--workers", "3", cwd=tmp_path)
    assert done.rc == 0, done
    assert "budget.tokens=900: no room for the" in done.stderr
    assert 0 < len(data(tmp_path / "one").splitlines()) < 60
    assert data(tmp_path / "three") == data(tmp_path / "one")
    used = json.loads(call_harness("status", "three", "--json", cwd=tmp_path).stdout)["budget"]["tokens"]["used"]
    assert used <= 900


@pytest.mark.slow
def test_several_workers_make_what_one_makes(recipe: Write, tmp_path: Path) -> None:
    assert synth(tmp_path, recipe(), "--dir", "one").rc == 0
    done = run_harness("synth", recipe(), "--dir", "two", "--workers", "2", cwd=tmp_path)
    assert done.rc == 0, done
    assert data(tmp_path / "two") == data(tmp_path / "one")


def test_a_torn_line_is_written_again(recipe: Write, tmp_path: Path) -> None:
    assert synth(tmp_path, recipe(), "--dir", "made").rc == 0
    whole, file = data(tmp_path / "made"), tmp_path / "made" / "shards" / "00001.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    found = ledger(tmp_path / "made")
    found["shards"]["1"] |= {"done": False, "reserved": 100, "at_risk": 30}
    (tmp_path / "made" / "ledger.json").write_text(json.dumps(found))
    (tmp_path / "made" / "dataset" / "data.jsonl").unlink()
    assert synth(tmp_path, recipe(), "--dir", "made").rc == 0
    assert data(tmp_path / "made") == whole
    assert ledger(tmp_path / "made")["shards"]["1"]["lost"] == 30


def test_a_budget_is_never_exceeded_and_can_be_raised(recipe: Write, tmp_path: Path) -> None:
    assert synth(tmp_path, recipe(), "--dir", "whole").rc == 0
    done = synth(tmp_path, recipe(), "budget.tokens=90", "--dir", "made")
    assert done.rc == 0, done
    assert "budget.tokens=90: no room for the" in done.stderr
    spent = json.loads(call_harness("status", "made", "--json", cwd=tmp_path).stdout)["budget"]["tokens"]
    assert 0 < spent["used"] <= 90
    part = data(tmp_path / "made")
    assert data(tmp_path / "whole").startswith(part)
    assert part != data(tmp_path / "whole")
    assert synth(tmp_path, recipe(), "budget.tokens=9e3", "--dir", "made").rc == 0
    assert data(tmp_path / "made") == data(tmp_path / "whole")
    nothing = synth(tmp_path, recipe(), "budget.tokens=3", "--dir", "nothing")
    assert nothing.rc == 1
    assert "no row is left" in nothing.stderr


def test_another_recipe_is_refused_by_what_differs(recipe: Write, tmp_path: Path) -> None:
    assert synth(tmp_path, recipe(), "--dir", "made").rc == 0
    before = data(tmp_path / "made")
    done = synth(tmp_path, recipe(), "steps.text.max_new_tokens=9", "--dir", "made")
    assert done.rc == 2
    assert "steps.text.max_new_tokens=8, now 9; valid: the same recipe, or another --dir" in done.stderr
    done = synth(tmp_path, recipe(), "steps.text.draws=3", "--dir", "made")
    assert (done.rc, "steps.text.draws=2, now 3; valid: the same recipe" in done.stderr) == (2, True), done
    seeds = tmp_path / "prompts.jsonl"
    seeds.write_text(seeds.read_text().replace("mill", "hill"))
    done = synth(tmp_path, recipe(), "--dir", "made")
    assert done.rc == 2
    assert "seeds.prompts is no longer what it was when this was begun" in done.stderr
    assert data(tmp_path / "made") == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other").touch()
    assert synth(tmp_path, recipe(), "--dir", "full").rc == 2


def test_what_is_scored_is_not_paid_again(recipe: Write, tmp_path: Path) -> None:
    assert synth(tmp_path, recipe(), "--dir", "made").rc == 0
    before = raw(tmp_path / "made")
    words = ["steps.right.verify=contains", "steps.right.reference=prompts.id"]
    done = synth(tmp_path, recipe(), *words, "--dir", "made", "--json")
    assert done.rc == 0, done
    assert raw(tmp_path / "made") == before


def test_what_workers_write_is_not_changed_under_them(recipe: Write, tmp_path: Path) -> None:
    directory = begin(load_recipe(str(recipe()), []), tmp_path / "made").directory
    claim = directory.claim(4, stopping=lambda: False)
    assert claim is not None
    before = directory.recipe.read_bytes()
    scored = ["steps.likely.nll=teacher"]
    with pytest.raises(InputError, match=r"made: this recipe has more to write, and workers write it; valid: .*`harness stop"):
        begin(load_recipe(str(recipe()), scored), directory.path)
    assert directory.recipe.read_bytes() == before
    begin(load_recipe(str(recipe()), ["filters.words.min=1"]), directory.path)  # workers need not know of it
    claim.release()
    begin(load_recipe(str(recipe()), scored), directory.path)
    assert directory.recipe.read_bytes() != before


def test_workers_of_more_shards_and_what_they_just_wrote_are_seen(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = begin(load_recipe(str(recipe()), []), tmp_path / "made").directory
    *others, last = filter(None, (directory.claim(4, stopping=lambda: False) for _ in range(4)))
    for other in others:
        other.release()
    assert directory.at_work(4) == [3]
    before, fewer = directory.recipe.read_bytes(), load_recipe(str(recipe()), ["shard_rows=100"])
    with pytest.raises(InputError, match="and workers write it"):
        begin(fewer, directory.path)

    def written_meanwhile(directory: SynthDirectory) -> None:
        directory.append(3, {"step": "text", "id": "a", "text": "x", "finish": "stop", "tokens": [2, 3]})
        last.release()

    monkeypatch.setattr("harness.work.synth.study_jobs", written_meanwhile)
    with pytest.raises(InputError, match="holds what another recipe made: shard_rows=4, now 100"):
        begin(fewer, directory.path)
    assert directory.recipe.read_bytes() == before


def test_what_others_write_is_waited_for_and_taken_over(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = begin(load_recipe(str(recipe()), []), tmp_path / "made")
    claim = begun.directory.claim(4, stopping=lambda: False)
    assert claim is not None
    turns, closed, told = [], [], []

    def work_and_count(*given: Any, **named: Any) -> None:
        turns.append(answers(begun.directory, 4))
        synth_worker.work(*given, **named)

    def look(there: int, asks: int, tokens: int) -> None:
        told.append((there, tokens))
        if told[-2:] == [told[-1]] * 2 and there == 12:  # nothing was written between two looks
            claim.release()

    monkeypatch.setattr("harness.work.synth.work", work_and_count)
    monkeypatch.setattr("harness.work.synth.POLL_SECONDS", 0.01)
    monkeypatch.setattr(begun.teachers, "close", lambda: closed.append(answers(begun.directory, 4)))
    make(begun, workers=1, progress=look)
    assert (turns, closed) == ([0, 12], [16])  # one turn for each of them; teachers are let go of once
    assert told[-1] == (16, begun.directory.ledger().used)


def test_rounds_end_where_nothing_is_asked(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks_of, rounds = Plan.asks_of, []

    def asked(*given: Any) -> Any:
        rounds.append(asks_of(*given))
        return rounds[-1]

    monkeypatch.setattr(Plan, "asks_of", asked)
    assert synth(tmp_path, recipe(steps__text__retries=1000, steps__text__draws=1), "shard_rows=100", "--dir", "made").rc in (0, 1)
    assert (len(rounds[0]), rounds[-1]) == (8, [])
    assert all(rounds[:-1])


def test_a_text_that_was_cut_is_dropped_and_kept_with_its_reason(recipe: Write, tmp_path: Path) -> None:
    done = synth(tmp_path, recipe(filters={}, emit="messages"), "--dir", "made", "--json")
    rejected = [json.loads(line) for line in (tmp_path / "made" / "rejected.jsonl").read_text().splitlines()]
    written = raw(tmp_path / "made")
    cut = {row["id"] for row in written if row["finish"] == "length"}
    assert cut
    assert {row["id"] for row in rejected if (row["rule"], row["value"]) == ("finish", "length")} == cut
    assert done.rc == (0 if any(row["finish"] == "stop" and row["text"] for row in written) else 1)


def test_later_steps_read_what_earlier_ones_wrote(recipe: Write, tmp_path: Path) -> None:
    path = recipe(steps__more={"template": "{{ text[:4] }} and", "draws": 3, "max_new_tokens": 4, "parse": r"\w+"})
    done = synth(tmp_path, path, "--dir", "made", "--json")
    assert done.rc == 0, done
    assert json.loads(done.stdout)["answers"]["asked"] == 16 + 48
    rows = [json.loads(line) for line in data(tmp_path / "made").splitlines()]
    assert rows
    assert synth(tmp_path, path, "--dir", "again", "--workers", "1", "shard_rows=100").rc == 0
    assert data(tmp_path / "again") == data(tmp_path / "made")


def test_the_same_from_python(recipe: Write, tmp_path: Path) -> None:
    import harness as h

    made = h.synth(recipe(), directory="made")
    assert synth(tmp_path, recipe(), "--dir", "shell").rc == 0
    assert made.path.read_bytes() == data(tmp_path / "shell")
    assert (made.status["state"], len(made.rows), made.directory) == ("complete", made.status["rows"], Path("made"))
    assert h.data_set("made").rows == made.rows
    assert repr(made) == f"<DataSet made: complete, {len(made.rows)} rows>"
    with pytest.raises(h.InputError, match="no data set that harness synth makes"):
        h.data_set("nothing")
    with pytest.raises(h.InputError, match=r"steps\.text\.draws=0"):
        h.synth(recipe(), "steps.text.draws=0")


def after(records: int, then: Callable[[SynthDirectory], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Something happens when a process has written so many records."""
    append, written = SynthDirectory.append, 0

    def appended(directory: SynthDirectory, shard: int, record: dict[str, Any]) -> None:
        nonlocal written
        if written == records:
            then(directory)
        append(directory, shard, record)
        written += 1

    monkeypatch.setattr(SynthDirectory, "append", appended)


def test_a_full_disk_loses_nothing(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert synth(tmp_path, recipe(), "--dir", "whole").rc == 0

    def fail(directory: SynthDirectory) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(directory.shard_file(1)))

    with monkeypatch.context() as patched:
        after(6, fail, patched)
        done = synth(tmp_path, recipe(), "--dir", "made")
    assert done.rc == 1, done
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(raw(tmp_path / "made")) == 6
    assert synth(tmp_path, recipe(), "--dir", "made").rc == 0
    assert data(tmp_path / "made") == data(tmp_path / "whole")
    ids = [row["id"] for row in raw(tmp_path / "made")]
    assert len(ids) == len(set(ids)) == 16


def test_what_is_asked_to_stop_goes_on_where_it_was(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert synth(tmp_path, recipe(), "--dir", "whole").rc == 0
    with monkeypatch.context() as patched:
        after(5, lambda directory: directory.stop_request.touch(), patched)
        done = synth(tmp_path, recipe(), "--dir", "made")
    assert (done.rc, "stopped: " in done.stderr, "the same command goes on" in done.stderr) == (1, True, True), done
    written = len(raw(tmp_path / "made"))
    assert 5 < written < 16
    assert not (tmp_path / "made" / "dataset").exists()
    assert not any(shard["reserved"] for shard in ledger(tmp_path / "made")["shards"].values())
    assert synth(tmp_path, recipe(), "--dir", "made").rc == 0
    assert data(tmp_path / "made") == data(tmp_path / "whole")
    assert len(raw(tmp_path / "made")) == 16


def test_in_half_precision_a_shard_that_lacks_a_text_is_written_anew(recipe: Write, tmp_path: Path) -> None:
    path = recipe(teachers__teacher__overrides=["trainer.threads=1", "trainer.precision=bf16-true"])
    assert synth(tmp_path, path, "--dir", "made").rc == 0
    whole, file = data(tmp_path / "made"), tmp_path / "made" / "shards" / "00002.jsonl"
    first, second, *others = file.read_text().splitlines()
    file.write_text("\n".join([first, *others]) + "\n")
    found = ledger(tmp_path / "made")
    found["shards"]["2"] |= {"done": False}
    (tmp_path / "made" / "ledger.json").write_text(json.dumps(found))
    (tmp_path / "made" / "dataset" / "data.jsonl").unlink()
    assert synth(tmp_path, path, "--dir", "made").rc == 0
    assert data(tmp_path / "made") == whole
    # All four were decoded together, and are so again: what they had cost before stays spent.
    lines = file.read_text().splitlines()
    assert sorted(lines) == sorted([first, second, *others, first, *others])
    tokens = [row["tokens"] for row in raw(tmp_path / "made")]
    assert sum(shard["prompt"] for shard in ledger(tmp_path / "made")["shards"].values()) == sum(read for read, _ in tokens)
