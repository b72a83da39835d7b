"""Runs that let the model write: when, what they keep of it, and what they cost."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from harness.config.load import load, load_file
from harness.data.tokenization import Tokenization
from harness.evaluation.build import build_evaluation_sets
from harness.models.tokenizer import load_tokenizer
from harness.runs.directory import RunDirectory
from harness.runs.lifecycle import LiveResult
from harness.runs.trunks import TrunkStore
from harness.training.evaluator import Evaluator
from harness.training.inputs import load_inputs
from harness.training.measure import measure
from harness.training.stop_flag import StopFlag
from harness.training.trunk_path import Trunks
from harness.work.attempt import ending_of
from tests.support.corpus import TinyText
from tests.support.endless import without_end_token
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, rows_without_speed, train_here
from tests.training.test_ranks import train_on_ranks

ACCURACY = "generation/words/accuracy"


def words(path: Path, *more: str) -> list[str]:
    """Overrides: two texts of four tokens after each of three prompts; the first five letters are right."""
    path.write_text("".join(json.dumps({"id": word, "prompt": word}) + "\n" for word in ("the", "river", "mill")))
    key = "data.generation.words"
    settings = {"path": path, "draws": 2, "max_new_tokens": 4, "verifier": "regex", "pattern": "'[a-e]'"}
    return [*(f"{key}.{name}={value}" for name, value in settings.items()), *(f"{key}.{one}" for one in more)]


def written_at(run: RunDirectory) -> dict[int, int]:
    return {step: len(texts) for step, texts in run.generations.by_step().items()}


@pytest.mark.parametrize(("every", "steps"), [("null", [0, 4]), ("1", [0, 1, 2, 3, 4]), ("3", [0, 3, 4])])
def test_a_set_is_measured_as_often_as_it_says_and_at_both_ends(new_run: NewRun, tmp_path: Path, every: str, steps: list[int]) -> None:
    more = ["trainer.max_steps=4", "trainer.evaluate_every_steps=1"]
    _, run = new_run("run", *words(tmp_path / "words.jsonl", f"every_evaluations={every}"), *more)
    result = train_here(run)
    assert [row["step"] for row in run.metrics.rows() if ACCURACY in row] == steps
    assert len([row for row in run.metrics.rows() if "val/domain/loss" in row]) == 5
    assert written_at(run) == dict.fromkeys(steps, 6)
    last = run.generations.by_step()[4]
    assert [(text.id, text.draw) for text in last] == [(id_, draw) for id_ in dict.fromkeys(text.id for text in last) for draw in (0, 1)]
    assert result.metrics[ACCURACY] == sum(text.score or 0 for text in last) / 6
    assert result.metrics["generation/words/length"] == sum(text.tokens for text in last) / 6


def test_a_model_without_an_end_token_is_warned_of_once(
    new_run: NewRun, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endless = without_end_token(tiny_model, tmp_path / "endless")
    more = ["trainer.max_steps=1", f"model.path={endless}", f"tokenizer.path={endless}"]
    _, run = new_run("run", *words(tmp_path / "words.jsonl", "every_evaluations=1"), *more)
    with caplog.at_level(logging.WARNING, "harness"):
        result = train_here(run)
    assert result.metrics["generation/words/stopped"] == 0
    [said] = [message for message in caplog.messages if "end token" in message]
    assert said.endswith("without data.generation.words.stop")


def test_a_run_that_a_callback_ends_is_measured_there_whole(new_run: NewRun, tmp_path: Path) -> None:
    stopping = (
        "trainer.callbacks.stopping={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/domain/loss, "
        "stopping_threshold: 100.0}"
    )
    _, run = new_run("run", *words(tmp_path / "words.jsonl"), "trainer.max_steps=4", "trainer.evaluate_every_steps=2", stopping)
    result = train_here(run)
    last = run.metrics.rows()[-1]
    assert (result.state, result.step) == ("pruned", last["step"])
    assert last["step"] < 4
    assert ACCURACY in last
    assert "val/domain/loss" in last
    assert set(written_at(run)) == {0, last["step"]}


@pytest.mark.slow
def test_ranks_that_wait_for_a_generation_metric_stop_after_the_same_step(new_run: NewRun, tmp_path: Path) -> None:
    """Each rank writes some of the texts; the patience of all is that of one rank alone."""
    stopping = (
        "trainer.callbacks.stopping={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: generation/words/distinct_1, "
        "mode: max, min_delta: 1000.0, patience: 2}"
    )
    more = [*words(tmp_path / "words.jsonl", "every_evaluations=1"), "trainer.max_steps=12", "trainer.evaluate_every_steps=2", stopping]
    _, one = new_run("one", *more)
    _, two = new_run("two", *more, "trainer.devices=2", "trainer.strategy=ddp")
    alone, together = train_here(one), train_on_ranks(two)
    assert (alone.state, alone.step) == (together.state, together.step) == ("pruned", 4)
    assert written_at(two) == written_at(one) == dict.fromkeys((0, 2, 4), 6)
    first = [{(text.id, text.draw): text.text for text in run.generations.by_step()[0]} for run in (one, two)]
    assert first[0] == first[1]


def test_a_branch_has_the_texts_of_its_trunk(new_run: NewRun, tmp_path: Path) -> None:
    study = [*words(tmp_path / "words.jsonl", "every_evaluations=1"), *EXACT_RESUME, "schedule=wsd", "schedule.decay_fraction=0.25"]
    branch = [*study, "schedule.floor=0.5"]
    store = TrunkStore(tmp_path / "trunks")
    other, _ = new_run("other", *branch)
    _, trunk = new_run("trunk", *study)
    train_here(trunk, trunks=Trunks(store, (other,)))
    _, second = new_run("second", *branch)
    assert train_here(second, trunks=Trunks(store)).tokens.shared > 0
    _, scratch = new_run("scratch", *branch)
    train_here(scratch)
    assert written_at(second) == dict.fromkeys((0, 5, 10, 12), 6)
    assert second.generations.by_step() == scratch.generations.by_step()


def test_what_a_set_takes_is_said_at_the_start_and_kept(new_run: NewRun, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, run = new_run(
        "run", *words(tmp_path / "words.jsonl", "every_evaluations=2"), "trainer.max_steps=4", "trainer.evaluate_every_steps=1"
    )
    with caplog.at_level(logging.INFO, logger="harness"):
        result = train_here(run)
    (said,) = [line for line in caplog.messages if line.startswith("data.generation.words: ")]
    assert "3 times in this run (data.generation.words.every_evaluations=2)" in said
    taken = result.set_seconds["data.generation.words"]
    assert 0 < taken < sum(result.set_seconds.values()) <= result.evaluation_seconds


def test_a_run_that_was_stopped_goes_on_to_the_same_texts_each_once(new_run: NewRun, tmp_path: Path) -> None:
    more = [*words(tmp_path / "words.jsonl", "every_evaluations=1"), "trainer.max_steps=4", "trainer.evaluate_every_steps=2"]
    _, whole = new_run("whole", *more)
    _, stopped = new_run("stopped", *more)
    train_here(whole)
    train_here(stopped, stop_after=3)
    # As if it had been killed after it wrote the texts of step 4 in part, and before its row.
    ahead = whole.generations.by_step()[4]
    stopped.generations.append(4, ahead[:2])
    train_here(stopped)
    assert stopped.generations.by_step() == whole.generations.by_step()
    assert rows_without_speed(stopped) == rows_without_speed(whole)
    assert len(stopped.generations.path.read_text().splitlines()) == 3 * 6


def test_a_run_that_trains_nothing_reads_its_prompts_and_what_may_be_written(new_run: NewRun, tmp_path: Path) -> None:
    config, run = new_run("run", *words(tmp_path / "words.jsonl"), "trainer.max_steps=0")
    sets = build_evaluation_sets(Tokenization(config.data, load_tokenizer(config)))
    with LiveResult(run, ending_of) as live:
        live.ending = measure(load_file(run.config), live, stop=StopFlag())
    tokens = live.result.tokens
    assert tokens.budgeted == tokens.read == tokens.position == sum(part.tokens_read for part in sets)
    assert written_at(run) == {0: 6}
    assert ACCURACY in live.result.metrics


def test_a_run_that_is_stopped_while_it_writes_has_read_a_part_of_it(new_run: NewRun, tmp_path: Path) -> None:
    _, run = new_run("run", *words(tmp_path / "words.jsonl"), "trainer.max_steps=0", "~data.validation")
    stop = StopFlag()

    def stop_at_three(name: str, done: int, size: int) -> None:
        stop.is_set = done >= 3

    with LiveResult(run, ending_of) as live:
        live.ending = measure(load_file(run.config), live, stop=stop, evaluation_progress=stop_at_three)
    assert 0 < live.result.tokens.read < live.result.tokens.budgeted
    assert written_at(run) == {}


def test_runs_that_sample_otherwise_share_no_steps_where_something_is_written(new_run: NewRun, tmp_path: Path) -> None:
    def shared(*overrides: str) -> int:
        configs = [new_run(f"{len(list(tmp_path.rglob('config.yaml')))}", *overrides, f"sampling.temperature={t}")[0] for t in (0.5, 1.0)]
        first, second = (load_inputs(config).prefix(config) for config in configs)
        return first.shared_with(second).steps

    assert shared("trainer.max_steps=3") == 3
    assert shared("trainer.max_steps=3", *words(tmp_path / "words.jsonl")) == 0


def test_time_that_writing_takes_is_told_with_the_key_that_bounds_it(
    tiny_text: TinyText, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = words(tmp_path / "words.jsonl", "every_evaluations=2")
    config = load([*tiny_text.overrides, *more, "trainer.evaluate_every_steps=10", "~data.validation"]).config
    evaluator = Evaluator(config, build_evaluation_sets(Tokenization(config.data, load_tokenizer(config))))
    evaluator.seconds, evaluator.evaluations = 4.0 + 2 * 6.0, 2
    rare: Any = evaluator._rare["data.generation.words"]
    for _ in range(2):
        rare.add(6.0)
    with caplog.at_level(logging.WARNING, logger="harness"):
        evaluator.warn_of_share(steps=40, seconds_per_step=1.0)
    [said] = caplog.messages
    # 5 evaluations; the texts of the first, the third and the last.
    assert "41 % of this run's time: 5 times 2.0 s and 3 times 6.0 s (data.generation.words), against 40 s of training" in said
    assert "a smaller data.generation.words.max_prompts (now 3 prompts, 6 texts)" in said
