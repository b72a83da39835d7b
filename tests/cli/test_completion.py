"""Completion as shells ask for it, and in a real bash."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from harness.config.schema import OptimConfig, ScheduleName
from harness.config.sweep_schema import BudgetConfig
from tests.support import warm
from tests.support.command import Done, call_harness, run_harness

LIMIT_SECONDS = 30.0
SHELL_AS_SAID = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
"""The script of the shell that is named, whatever shell there is above the process that asks: above a test there may be none."""


def complete(shell: str, line: str, cwd: Path, harness: Callable[..., Done] = call_harness) -> list[str]:
    """What is offered for a line with the cursor at its end, by the variables that the shell's own script sets."""
    if shell == "bash":
        # bash takes = and : for words of their own, and hands the words over one a line.
        words = [part for word in line.split(" ") for part in (re.findall(r"[=:]|[^=:]+", word) or [""])]
        env = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    else:
        env = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = harness(cwd=cwd, env={"_HARNESS_COMPLETE": f"complete_{shell}", **env})
    assert done.stderr == ""
    if shell == "zsh":
        return re.findall(r'^(?:_arguments .*\()?"([^"]*)"', done.stdout, flags=re.MULTILINE)
    return [line.split("\t")[0] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_verbs(tmp_path: Path, shell: str) -> None:
    offered = complete(shell, "harness ", tmp_path, run_harness)
    assert {"show", "data", "train", "resume", "sweep", "status", "stop", "compare", "best"} <= set(offered)
    assert "worker" not in offered
    assert complete(shell, "harness tr", tmp_path) == ["train"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("opt", ["optim=", "optim."]),
        ("optim.w", ["optim.weight_decay=", "optim.weight_decay=0.1"]),
        ("optim.", [f"optim.{field.name}=" for field in fields(OptimConfig)]),
        ("schedule=", [f"schedule={name}" for name in sorted(get_args(ScheduleName))]),
        ("schedule=w", ["schedule=wsd"]),
        ("optim.name=", ["optim.name=adamw", "optim.name=muon", "optim.name=soap", "optim.name=lion", "optim.name=schedule_free"]),
        ("data.packing=", ["data.packing=best_fit", "data.packing=concat", "data.packing=padded"]),
        ("data.sources.docs.repl", ["data.sources.docs.replay=true", "data.sources.docs.replay=false"]),
        ("experiment=best/", ["experiment=best/mine"]),
        # A single candidate would end the word with a space: where more follows, it is offered at once.
        ("optim.lr", ["optim.lr=", "optim.lr=0.001"]),
        ("tracking.mo", ["tracking.mode=offline", "tracking.mode=online", "tracking.mode=null"]),
        ("++data.append_eos=", ["++data.append_eos=true", "++data.append_eos=false"]),
        ("nonsense", []),
    ],
)
def test_overrides(tmp_path: Path, shell: str, word: str, offered: list[str]) -> None:
    winner = tmp_path / "conf/experiment/best/mine.yaml"
    winner.parent.mkdir(parents=True)
    winner.write_text("# @package _global_\noptim: {lr: 0.1}\n")
    if shell == "bash":
        # Up to the last = the word is there already, as words of its own.
        offered = [name.removeprefix(word[: word.rfind("=") + 1]) for name in offered]
    assert complete(shell, f"harness train {word}", tmp_path) == offered


def test_after_a_whole_override_comes_another_one(tmp_path: Path) -> None:
    assert complete("bash", "harness train schedule=wsd optim.l", tmp_path) == ["optim.lr=", "optim.lr=0.001"]
    assert "schedule=" in complete("bash", "harness train optim.lr=1e-3 ", tmp_path)


def test_a_sweep_takes_overrides_of_its_own(tmp_path: Path) -> None:
    assert complete("zsh", "harness sweep quickstart budget.", tmp_path) == [f"budget.{field.name}=" for field in fields(BudgetConfig)]
    assert complete("zsh", "harness sweep quickstart search=t", tmp_path) == ["search=tpe", "search=trunk"]
    assert complete("zsh", "harness train search=", tmp_path) == []
    assert complete("zsh", "harness sweep quickstart space.optim.l", tmp_path) == ["space.optim.lr."]
    assert "space.optim.lr.low=" in complete("zsh", "harness sweep quickstart space.optim.lr.", tmp_path)
    assert complete("zsh", "harness train space.", tmp_path) == []
    assert {"quickstart", "cpt"} <= set(complete("bash", "harness sweep ", tmp_path))


def test_studies_and_runs(tmp_path: Path) -> None:
    for name, file in (("first", "sweep.yaml"), ("second", "sweep.yaml"), ("single", "config.yaml"), ("stray", "notes.txt")):
        path = tmp_path / "runs" / name
        path.mkdir(parents=True)
        (path / file).write_text("{}")
    for verb in ("status", "stop", "best"):
        assert complete("bash", f"harness {verb} ", tmp_path) == ["first", "second"]
    assert complete("fish", "harness compare fi", tmp_path) == ["first"]
    assert complete("bash", "harness resume s", tmp_path) == ["second", "single"]
    for number in (0, 7, 12):
        (tmp_path / "runs" / "first" / "trials" / f"{number:04d}").mkdir(parents=True)
    assert complete("zsh", "harness export first/", tmp_path) == ["first/0", "first/7", "first/12"]
    assert complete("zsh", "harness export first/1", tmp_path) == ["first/12"]
    assert {"first", "second", "cpt"} <= set(complete("zsh", "harness sweep ", tmp_path)), "a study goes on by its name"


def test_what_ls_lists_and_init_copies(tmp_path: Path) -> None:
    assert complete("zsh", "harness ls s", tmp_path) == ["studies", "sweeps", "synth"]
    assert "cpt" in complete("zsh", "harness init sweep ", tmp_path)
    assert complete("zsh", "harness init launcher slurm_8", tmp_path) == ["slurm_8gpu"]
    assert complete("zsh", "harness init ", tmp_path) == ["sweep", "experiment", "launcher", "synth"]


def test_a_study_takes_budget_and_launcher_when_it_goes_on(tmp_path: Path) -> None:
    assert complete("zsh", "harness resume first budget.tr", tmp_path) == ["budget.trials=", "budget.trial_hours="]
    assert complete("zsh", "harness resume first launcher=slurm_8", tmp_path) == ["launcher=slurm_8gpu"]
    assert complete("zsh", "harness resume first optim.", tmp_path) == []


def test_paths_below_directories(tmp_path: Path) -> None:
    (tmp_path / "models/small").mkdir(parents=True)
    assert complete("zsh", "harness train model.path=mo", tmp_path) == ["model.path=models/"]
    assert complete("zsh", "harness train model.path=models/", tmp_path) == ["model.path=models/small/"]
    # bash completes file names by itself where nothing is offered.
    assert complete("bash", "harness train model.path=mo", tmp_path) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(tmp_path: Path, shell: str) -> None:
    done = run_harness("--show-completion", shell, cwd=tmp_path, env=SHELL_AS_SAID)
    assert done.rc == 0
    assert "_HARNESS_COMPLETE" in done.stdout


# A real bash, which splits words as it likes.


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("harness tra", ["train"]),
        ("harness train schedule=w", ["train", "schedule=wsd"]),
        ("harness train schedule=wsd data.packing=conc", ["train", "schedule=wsd", "data.packing=concat"]),
        ("harness train optim.weight_d", ["train", "optim.weight_decay="]),
        ("harness train sched", ["train", "schedule"]),
        ("harness train optim.lr=", ["train", "optim.lr=0.001"]),
        ("harness train data.sources.docs.path=te", ["train", "data.sources.docs.path=text.jsonl"]),
        ("harness train experiment=best/m", ["train", "experiment=best/mine"]),
        ("harness status fi", ["status", "first"]),
    ],
)
def test_a_tab_in_bash(tmp_path: Path, typed: str, words: list[str]) -> None:
    for file in ("conf/experiment/best/mine.yaml", "runs/first/sweep.yaml", "text.jsonl"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}\n")
    script = tmp_path / "completion.sh"
    script.write_text(run_harness("--show-completion", "bash", cwd=tmp_path, env=SHELL_AS_SAID).stdout)
    assert tab_in_bash(tmp_path, script, typed) == words


def tab_in_bash(cwd: Path, script: Path, typed: str) -> list[str]:
    """The arguments that `harness` gets when a line is typed into an interactive bash with a tab at its end."""
    out = cwd / "arguments.json"
    # The completing function calls `harness` by its path; the line itself runs a function of that name that writes its arguments.
    rc = cwd / "bashrc"
    rc.write_text(
        f"source {script}\n"
        f"export PATH={warm.shared().programs}:$PATH HARNESS_RUNS={cwd}/runs\n"
        "PS1='ready> '\n"
        "bind 'set bell-style none' 'set enable-bracketed-paste off' 2>/dev/null\n"
        f"record() {{ python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' \"$@\" > {out}.part; mv {out}.part {out}; }}\n"
        "alias harness=record\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ["TERM"] = "dumb"
        os.execvp("bash", ["bash", "--noprofile", "--rcfile", str(rc), "-i"])
    try:
        _read(terminal, lambda seen: "ready> " in seen)
        os.write(terminal, f"{typed}\t".encode())
        # The line is echoed as it was typed, and then as the tab left it.
        _read(terminal, lambda seen: typed in seen and len(seen) > len(typed))
        os.write(terminal, b"\n")
        deadline = time.monotonic() + LIMIT_SECONDS
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        arguments: list[str] = json.loads(out.read_text())
        return arguments
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def _read(terminal: int, enough: Callable[[str], bool]) -> None:
    """Read until there is enough, and until nothing more comes."""
    seen, deadline = "", time.monotonic() + LIMIT_SECONDS
    while True:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096).decode(errors="replace")
        elif enough(seen):
            return
        assert time.monotonic() < deadline, seen


def test_recipes_for_data_and_their_keys(tmp_path: Path) -> None:
    assert complete("zsh", "harness synth best", tmp_path) == ["best_of"]
    assert complete("zsh", "harness synth answers budget.tok", tmp_path) == ["budget.tokens=", "budget.tokens=null"]
    assert complete("zsh", "harness synth answers select.name=b", tmp_path) == ["select.name=best_of"]
