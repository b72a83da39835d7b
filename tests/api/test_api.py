"""The harness from Python: the same configurations, runs and studies as on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import harness as h
from harness.config.validate import to_plain
from harness.runs.files import read_yaml
from tests.support import warm
from tests.support.command import run_harness
from tests.support.corpus import TinyText

SWEEP = """
base: {base}
objective: {{metric: val/domain/loss}}
space: {{optim.lr: {{low: 1e-4, high: 1e-2, log: true}}}}
search: random
budget: {{trials: 3}}
"""


def test_importing_the_package_imports_nothing_that_takes_time(tmp_path: Path) -> None:
    code = "import sys, harness as h; print(dir(h)); print(sorted({'torch', 'hydra', 'pydantic', 'numpy', 'typer'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    assert "'sweep'" in names
    assert heavy == "[]"
    with pytest.raises(AttributeError, match="nothere"):
        _ = h.nothere


def test_a_configuration_is_what_the_command_line_composes(tiny: list[str], tmp_path: Path) -> None:
    config = h.load(*tiny, "optim.lr=3e-3", "schedule=wsd")
    assert (config.optim.lr, config.schedule.name) == (3e-3, "wsd")
    shown = run_harness("show", *tiny, "optim.lr=3e-3", "schedule=wsd", "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["config"] == to_plain(config)
    again = h.load("seed=1", config=config)
    assert (again.seed, again.optim.lr, config.seed) == (1, 3e-3, 0)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optim.lrr=1"], r"\(given in the arguments of load\)\. Did you mean 'optim.lr'"),
        (["optim.lr=-1"], r"a number > 0 \(given in the arguments of load\)"),
        (["experiment=cpt"], "model.path: required, give it in the arguments of load: model.path="),
        ([["optim.lr=1"]], "expected overrides as separate strings"),
    ],
)
def test_a_wrong_configuration_is_told_when_it_is_loaded(overrides: list[str], said: str) -> None:
    with pytest.raises(h.InputError, match=said):
        h.load(*overrides)


def test_a_configuration_that_was_changed_by_hand_is_checked_again(tiny: list[str], tmp_path: Path) -> None:
    config = h.load(*tiny)
    with pytest.raises(AttributeError, match="'lrr'; valid: name, lr,"):
        config.optim.lrr = 1.0  # type: ignore[attr-defined]
    config.schedule.warmup = 7.5
    with pytest.raises(h.InputError, match=r"schedule\.warmup"):
        h.train(config, directory=tmp_path / "run")
    with pytest.raises(h.InputError, match="only values can be overridden"):
        h.load("schedule=wsd", config=config)
    with pytest.raises(h.InputError, match=r"optim\.lr=fast: .*given in the arguments of load"):
        h.load("optim.lr=fast", config=h.load(*tiny))
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_run_from_python_is_refused_with_what_can(tiny: list[str], tmp_path: Path) -> None:
    with pytest.raises(h.InputError, match="expected a configuration"):
        h.train({})  # type: ignore[arg-type]
    with pytest.raises(h.InputError, match=r"trainer\.devices=2: .*harness train --config"):
        h.train(h.load(*tiny, "trainer.devices=2"), directory=tmp_path / "run")
    with pytest.raises(h.InputError, match="unknown run"):
        h.resume("nothere")
    with pytest.raises(h.InputError, match="unknown study"):
        h.study("nothere")
    with pytest.raises(h.InputError, match="workers=0"):
        h.sweep("cpt", workers=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_and_the_same_run_again(tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = h.train(h.load(*tiny))
    assert (run.state, run.step, run.objective, run.reason) == ("complete", 4, None, None)
    assert run.directory.parent == Path(os.environ["HARNESS_RUNS"])
    assert run.metrics == json.loads((run.directory / "result.json").read_text())["metrics"]
    assert [row["step"] for row in run.history] == [0, 1, 2, 3, 4]
    assert to_plain(run.config) == read_yaml(run.directory / "config.yaml")
    assert "step 4/4" in capfd.readouterr().err
    again = h.train(run.config, directory=tmp_path / "again", progress=False)
    assert again.metrics["train/loss"] == run.metrics["train/loss"]
    assert capfd.readouterr() == ("", "")
    assert h.resume(tmp_path / "again").tokens == again.tokens, "nothing is left to do"
    with pytest.raises(h.InputError, match="not empty"):
        h.train(run.config, directory=again.directory)


@pytest.mark.slow
def test_bad_data_is_an_input_error_and_leaves_no_run(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(h.InputError, match="line 1: not valid JSON"):
        h.train(h.load(*tiny, f"data.sources.domain.path={tmp_path / 'broken.jsonl'}"))
    assert not list(Path(os.environ["HARNESS_RUNS"]).iterdir())


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_ends_the_program_and_gives_the_signals_back(tiny: list[str], tmp_path: Path) -> None:
    config = h.load(*tiny, "trainer.max_steps=2000")

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        h.train(config, directory=tmp_path / "run", progress=False)
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    stopped = h.run(tmp_path / "run")
    assert (stopped.state, stopped.reason) == ("waiting", "stopped")
    assert list(stopped.directory.glob("checkpoints/*"))


@pytest.mark.slow
def test_a_sweep_in_a_program_from_standard_input_without_a_guard(tiny_text: TinyText, tmp_path: Path) -> None:
    """There is no file that workers could import, and no `if __name__` that would keep them from running it again."""
    (tmp_path / "question.yaml").write_text(SWEEP.format(base=json.dumps(tiny_text.overrides)))
    program = """
import json
import harness as h

print("once")
study = h.sweep("question.yaml", workers=1)
best = study.best
study.export("found")
try:
    h.sweep("question.yaml", "data.sources.domain.path=gone.jsonl", name="other")
except h.InputError as error:
    print(error)
try:
    study.confirm(rounds=0)
except h.InputError as error:
    print(error)
winner = study.confirm(top=2, seeds=2, rounds=2)
print(json.dumps({
    "winner": [winner.number, winner.objective, winner.confirmed, winner.interval, study.best.number],
    "objectives": [trial.objective for trial in study.trials],
    "best": [best.number, best.params, best.objective, best.confirmed, best.interval],
    "lr": [best.config.optim.lr, h.run("question/0").config.optim.lr],
    "status": study.status,
    "states": [trial.state for trial in h.study("question").trials],
    "exported": h.load("experiment=best/found").optim.lr,
}))
"""
    done = subprocess.run(
        [warm.shared().programs / "python", "-"], input=program, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    once, told, refused, line = done.stdout.splitlines()
    assert once == "once"
    assert refused == "--rounds=0: expected at least 1"
    assert "data.sources.domain.path=gone.jsonl: no such file" in told
    found = json.loads(line)
    number, params, objective, confirmed, interval = found["best"]
    assert found["states"] == ["complete"] * 3
    assert objective == min(found["objectives"]) == found["objectives"][number]
    assert (confirmed, interval) == (False, None)
    assert found["exported"] == params["optim.lr"]
    assert found["lr"] == [params["optim.lr"], found["status"]["trials"][0]["params"]["optim.lr"]]
    assert found["status"]["finished"] is True
    winner, mean, is_confirmed, (low, high), now_best = found["winner"]
    assert is_confirmed
    assert low <= mean <= high
    assert now_best == winner
    assert done.stderr.count(": complete  val/domain/loss") == 3 + 4, "a line a trial, and one for two candidates with two seeds"
