"""Runs that train nothing: `harness evaluate`, and trainer.max_steps=0."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.load import load_file
from harness.runs.directory import RunDirectory
from harness.runs.exit_codes import DONE, STOPPED
from harness.runs.metrics import Row
from harness.runs.result import read_result, write_result
from harness.training.measure import _Meter
from harness.training.stop_flag import StopFlag
from harness.work.attempt import attempt
from harness.work.evaluate import evaluation_of, run_of
from harness.work.start_run import start_run
from tests.support.command import call_harness, run_harness
from tests.support.corpus import TinyText
from tests.training.conftest import NewRun
from tests.training.runs import train_here

LORA = ["adapter=lora", "adapter.rank=2", "optim.lr=1e-2"]


def values(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.startswith(("val/", "generation/"))}


def evaluated(what: str, overrides: list[str], directory: Path) -> RunDirectory:
    """In this process."""
    done = start_run(evaluation_of(what, overrides).config, directory=directory, show_progress=False)
    assert done is not None
    assert done.code == DONE
    return done.run


def test_a_study_is_told_how_its_trials_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "question").mkdir(parents=True)
    (tmp_path / "runs" / "question" / "sweep.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"question is a study; valid: one of its trials, question/NUMBER \(harness best question"):
        evaluation_of("question", [])
    assert run_of("model.path=question") is None


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_a_model_is_evaluated_as_at_step_0_of_its_training(
    tiny_text: TinyText, tiny_model: Path, new_run: NewRun, tmp_path: Path, precision: str
) -> None:
    own = [*tiny_text.pretrained(tiny_model), f"trainer.precision={precision}", "data.validation.domain.loss_by_position=true"]
    _, trained = new_run("trained", *own, "trainer.max_steps=1")
    train_here(trained)
    run = evaluated(str(tiny_model), own, tmp_path / "evaluated")
    (row,) = run.metrics.rows()
    assert values(row) == values(trained.metrics.rows()[0])
    assert (row["step"], row["tokens"]) == (0, 0)
    result = read_result(run)
    assert (result.state, result.step, result.metrics) == ("complete", 0, {k: v for k, v in row.items() if k not in ("step", "tokens")})
    tokens = result.tokens
    assert tokens.read == tokens.length == tokens.position == tokens.spent > 0
    assert tokens.trained == 0
    assert {"model", "tokenizer", "data.validation.domain"} <= result.fingerprints.keys()
    assert not list(run.path.glob("checkpoints/*"))


@pytest.mark.parametrize("kind", [[], LORA, ["adapter=soft_prompt", "adapter.tokens=3", "data.context_length=16"], ["optim.ema_decay=0.5"]])
def test_a_run_is_evaluated_with_the_weights_that_it_ended_with(new_run: NewRun, tmp_path: Path, kind: list[str]) -> None:
    _, trained = new_run("trained", *kind)
    train_here(trained)
    run = evaluated(str(trained.path), [], tmp_path / "evaluated")
    last, (row,) = values(trained.metrics.rows()[-1]), run.metrics.rows()
    assert {name: value for name, value in values(row).items() if "forgetting" not in name} == {
        name: value for name, value in last.items() if "forgetting" not in name
    }
    assert load_file(run.config).model.checkpoint == str(trained.path)
    assert "checkpoint" in read_result(run).fingerprints


def test_training_can_start_from_the_weights_of_a_run(new_run: NewRun) -> None:
    _, first = new_run("first", *LORA)
    train_here(first)
    _, second = new_run("second", *LORA, f"model.checkpoint={first.path}", "seed=1")
    train_here(second)
    before, after = values(first.metrics.rows()[-1]), values(second.metrics.rows()[0])
    assert after["val/domain/loss"] == before["val/domain/loss"]


def test_weights_of_another_model_are_refused(new_run: NewRun, tmp_path: Path) -> None:
    _, trained = new_run("trained")
    train_here(trained)
    with pytest.raises(InputError, match=r"model\.checkpoint=.*: its weights are not those of this model and adapter"):
        evaluated(str(trained.path), ["model.layers=1"], tmp_path / "evaluated")
    _, none = new_run("none", "trainer.final_checkpoint=none")
    train_here(none)
    with pytest.raises(InputError, match=r"model\.checkpoint=.*has no checkpoint \(trainer\.final_checkpoint"):
        evaluated(str(none.path), [], tmp_path / "evaluated")


class StopsLater(StopFlag):
    """Set at its tenth look, in the middle of the first evaluation set."""

    def __init__(self) -> None:
        self.looks = 0
        super().__init__()

    @property
    def is_set(self) -> bool:
        self.looks += 1
        return self.looks > 10

    @is_set.setter
    def is_set(self, value: bool) -> None:
        assert not value


def test_an_evaluation_that_is_asked_to_stop_waits_and_is_made_again(tiny_text: TinyText, tiny_model: Path, new_run: NewRun) -> None:
    _, run = new_run("run", *tiny_text.pretrained(tiny_model), "trainer.max_steps=0", "trainer.evaluation_batch_tokens=32")
    assert attempt(run, stop=StopsLater()) == STOPPED
    stopped = read_result(run)
    assert (stopped.state, stopped.reason, stopped.metrics) == ("waiting", "stopped", {})
    assert 0 < stopped.tokens.read < stopped.tokens.length
    assert attempt(run) == DONE
    done = read_result(run)
    assert (done.state, done.attempts, done.failures) == ("complete", 2, 0)
    assert done.tokens.read == stopped.tokens.read + done.tokens.length


def test_sets_of_one_name_both_count() -> None:
    sets: Any = [SimpleNamespace(size=1, tokens_read=100), SimpleNamespace(size=3, tokens_read=6)]
    meter = _Meter(sets, StopFlag(), None)
    tokens = []
    for done, size in ((0, 1), (1, 1), (0, 3), (2, 3), (3, 3)):
        meter("quiz", done, size)
        tokens.append(meter.tokens)
    assert tokens == [0, 100, 100, 104, 106]


def test_a_killed_evaluation_may_have_read_everything(tiny_text: TinyText, tiny_model: Path, new_run: NewRun) -> None:
    _, run = new_run("run", *tiny_text.pretrained(tiny_model), "trainer.max_steps=0")
    assert attempt(run) == DONE
    result = read_result(run)
    # As a kill in the middle leaves it.
    result.state, result.tokens.read, result.tokens.position, result.booked_attempts = "running", 0, 0, 0
    write_result(run, result)
    run.metrics.path.unlink()
    assert attempt(run) == DONE
    done = read_result(run)
    assert (done.state, done.attempts, done.failures, done.tokens.read) == ("complete", 2, 1, 2 * done.tokens.length)


@pytest.mark.slow
def test_the_command_prints_the_metrics(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> None:
    options = ["tracking=none", "trainer=cpu", "data.context_length=32"]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": word, "prompt": f"the [b]{word}"}) + "\n" for word in ("river", "mill", "rain", "hill")))
    writing = [f"data.generation.words.path={prompts}", "data.generation.words.max_new_tokens=3", "sampling=greedy"]
    command = ["evaluate", str(tiny_model), f"data.validation.domain.path={tiny_text.domain}", *writing, *options]
    done = run_harness(*command, "--json", cwd=tmp_path)
    assert done.rc == 0, done
    document = json.loads(done.stdout)
    assert document["state"] == "complete"
    losses = {name for name in document["metrics"] if not name.startswith("generation/words/")}
    assert losses == {f"val/domain/{name}" for name in ("loss", "bits_per_byte", "forgetting")}
    assert [(one["set"], one["draw"], one["tokens"] <= 3) for one in document["samples"]] == [("words", 0, True)] * 3
    run = RunDirectory(tmp_path / document["run"])
    assert document["metrics"] == values(run.metrics.rows()[0])
    # The same by its run: resumed it is complete, evaluated it gives the same.
    again = run_harness("resume", document["run"], cwd=tmp_path)
    assert again.rc == 0, again
    assert "is complete" in again.stderr


@pytest.mark.parametrize(
    ("what", "overrides", "said"),
    [
        ("MODEL", [], ["nothing is trained, and there is nothing to evaluate on", "data.validation.<name>.path=FILE"]),
        ("/nowhere", ["data.validation.d.path=TEXT"], ["model.path=/nowhere", "no such directory"]),
        ("MODEL", ["data.validation.d.path=/nowhere"], ["data.validation.d.path=/nowhere: no such file"]),
        ("MODEL", ["data.validation.d.path=TEXT", "trainer.strategy=fsdp2"], ["trainer.strategy=fsdp2", "valid: auto"]),
        ("MODEL", ["data.validation.d.source=x", "data.validation.d.share=0.1"], ["data.validation.d.source=x", "not one of data.sources"]),
    ],
)
def test_bad_input(tiny_text: TinyText, tiny_model: Path, tmp_path: Path, what: str, overrides: list[str], said: list[str]) -> None:
    named = {"MODEL": str(tiny_model)}.get(what, what)
    done = call_harness("evaluate", named, *(text.replace("TEXT", str(tiny_text.domain)) for text in overrides), cwd=tmp_path)
    assert done.rc == 2, done
    assert all(part in done.stderr for part in said), done
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import sys
from pathlib import Path
from harness.work.evaluate import evaluation_of, run_of
from harness.work.start_run import start_run
done = start_run(evaluation_of({model!r}, {overrides!r}).config, directory=Path({directory!r}), show_progress=True)
print(done.code, [name for name in sys.modules if name.partition(".")[0] in ("lightning", "optuna")])
"""


@pytest.mark.slow
def test_it_starts_without_lightning(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> None:
    overrides = [f"data.validation.domain.path={tiny_text.domain}", "trainer=cpu", "data.context_length=32"]
    program = PROGRAM.format(model=str(tiny_model), overrides=overrides, directory=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0 []"
    assert (tmp_path / "run" / "wandb").is_dir()


def test_ranks_evaluate_together(tiny_text: TinyText, tiny_model: Path, new_run: NewRun) -> None:
    base = [*tiny_text.pretrained(tiny_model), "trainer.max_steps=0", "trainer.evaluation_batch_tokens=64"]
    _, alone = new_run("alone", *base)
    _, two = new_run("two", *base, "trainer.devices=2")
    before = signal.getsignal(signal.SIGCHLD)
    assert attempt(alone) == attempt(two) == DONE
    assert signal.getsignal(signal.SIGCHLD) == before
    assert values(two.metrics.rows()[0]) == values(alone.metrics.rows()[0])
