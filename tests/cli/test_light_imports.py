"""The command line answers between two key strokes: heavy libraries are imported where they are used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command import HARNESS

HEAVY = {"torch", "lightning", "transformers", "wandb", "tokenizers", "pyarrow", "plotly", "sklearn"}
# Not pydantic: recent versions of Typer use it themselves to read arguments.
ALL = HEAVY | {"optuna", "hydra", "omegaconf", "numpy"}
# Like the console script, but at its end it says on stderr what was imported.
SCRIPT = """
import atexit, sys
atexit.register(lambda: print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr))
from harness.cli.main import main
sys.argv[0] = "harness"
main()
"""


def imported(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> set[str]:
    """The top-level modules that a command imports."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("imported: "), done.stderr
    return set(last.split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "--help"], ["train", "--help"], ["--version"], ["--show-completion", "bash"]])
def test_help_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    found = imported(*arguments, cwd=tmp_path)
    assert not found & ALL
    if arguments == ["--help"]:
        assert "pydantic" not in found


@pytest.mark.parametrize("words", ["harness ", "harness train opt", "harness train schedule=", "harness status ", "harness sweep "])
def test_completion_imports_nothing_heavy(tmp_path: Path, words: str) -> None:
    env = {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert not imported(cwd=tmp_path, env=env) & ALL


@pytest.mark.parametrize("arguments", [["status", "question"], ["status", "question", "--json"], ["stop", "question"]])
def test_status_reads_files_and_imports_no_library_of_training_or_search(tmp_path: Path, arguments: list[str]) -> None:
    study = tmp_path / "runs" / "question"
    study.mkdir(parents=True)
    frozen = """
        objective: {metric: val/x/loss, direction: minimize}
        constraints: {}
        space: {}
        search: {name: random}
        budget: {trials: 3}
        launcher: {workers: 0}
        largest_trial_tokens: 512
        config: {trainer: {devices: 1, nodes: 1}}
    """
    (study / "sweep.yaml").write_text(frozen)
    assert not imported(*arguments, cwd=tmp_path) & (HEAVY | {"optuna"})


@pytest.mark.parametrize("arguments", [["show", "optim.lrr=1"], ["train", "optim.lrr=1"], ["data", "optim.lrr=1"], ["sweep", "nothere"]])
def test_a_typo_is_answered_without_torch(tmp_path: Path, arguments: list[str]) -> None:
    assert not imported(*arguments, cwd=tmp_path) & (HEAVY | {"optuna"})


def test_help_is_quick(tmp_path: Path) -> None:
    """The time is printed, not judged: this machine may be busy. Its target is 0.3 s."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([HARNESS, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        seconds.append(time.perf_counter() - began)
    print(f"harness --help: {min(seconds):.3f} s")
    for verb in ("show", "data", "train", "resume", "sweep", "status", "stop", "compare", "best"):
        assert f" {verb} " in done.stdout
    assert "worker" not in done.stdout.replace("workers", "")


def test_asking_an_endpoint_takes_no_library_of_models(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "say it"}\n')
    words = ["answers", "seeds.prompts.path=p.jsonl", "teachers.teacher.model=m", "teachers.teacher.endpoint=http://127.0.0.1:9/v1"]
    found = imported("synth", *words, cwd=tmp_path)
    assert (tmp_path / "runs" / "answers" / "ledger.json").is_file()  # so far it has come: nobody listens there
    assert not found & {"torch", "lightning", "transformers", "wandb", "tokenizers", "plotly", "sklearn", "optuna"}
