"""Markup and control characters of strangers are printed as they stand, wherever they come from."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.config.literal_console import LiteralConsole
from harness.config.terminal import say, shown
from harness.runs.directory import StudyDirectory
from harness.runs.files import read_json, write_json
from tests.report.synthetic_study import SWEEP, write_study
from tests.support.command import call_harness

EVIL = "[INST] go [/INST] [/red] :smile: \x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
LITERAL = ("[INST] go [/INST] [/red] :smile:", r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202e")
CONTROLS = ("\x1b", "\x07", "\x9b", "\u202e")


def test_control_characters_are_shown_and_text_is_left_alone() -> None:
    assert shown(EVIL) == " ".join(LITERAL)
    assert shown("für\tall\n日本 🙂 ▸") == "für\tall\n日本 🙂 ▸"
    assert shown("\ud800").encode() == rb"\ud800"


@pytest.mark.parametrize("built", ["string", "text", "cell", "heading", "title"])
def test_a_console_prints_literally(built: str) -> None:
    out = io.StringIO()
    console: Console = LiteralConsole(file=out, force_terminal=True, width=200, color_system=None)
    table = Table("a", box=None)
    match built:
        case "string":
            console.print(EVIL)
        case "text":
            console.print(Text(EVIL))
        case "cell":
            table.add_row(EVIL)
            console.print(table)
        case "heading":
            table.add_column(EVIL)
            table.add_row("1", "2")
            console.print(table)
        case "title":
            console.print(Table("a", title=EVIL, box=None, width=180))
    said = out.getvalue()
    assert "[INST] go [/INST] [/red] :smile:" in said
    assert r"\x1b[2J" in said
    assert not any(control in said for control in CONTROLS)


def test_lines_and_the_log_are_literal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    say(EVIL)
    assert capsys.readouterr().out == " ".join(LITERAL) + "\n"
    done = call_harness("status", EVIL, cwd=tmp_path)
    assert done.rc == 2
    assert not any(control in done.stderr for control in CONTROLS)
    assert logging.getLogger().handlers is not None


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyDirectory:
    """A study with evil names and values in all of its files."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path))
    space = {**SWEEP["space"], EVIL: {"choices": [EVIL, "x"]}}
    study = write_study(tmp_path, name="evil", trials=4, states={2: "failed"}, sweep={"space": space})
    for run in study.trials():
        trial: dict[str, Any] = read_json(run.trial) or {}
        write_json(run.trial, {**trial, "params": {**trial["params"], EVIL: EVIL}, "worker": EVIL})
        result: dict[str, Any] = read_json(run.result) or {}
        reason = EVIL if result["state"] == "failed" else None
        write_json(run.result, {**result, "reason": reason, "metrics": {**result["metrics"], f"val/{EVIL}/loss": 1.0}})
        run.config.write_text(yaml.safe_dump({**yaml.safe_load(run.config.read_text()), "adapter": {"init_text": EVIL}}))
    return study


@pytest.mark.parametrize("words", [["compare", "evil"], ["best", "evil"], ["best", "evil/0001"], ["compare", "evil", "--csv", "x.csv"]])
def test_no_view_of_a_study_is_taken_in(study: StudyDirectory, words: list[str], tmp_path: Path) -> None:
    done = call_harness(*words, cwd=tmp_path, env={"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": ""})
    assert done.rc in (0, 1), done
    said = done.stdout + done.stderr
    assert "\x1b]0;" not in said
    assert not any(control in said for control in ("\x07", "\x1b[2J", "\x9b", "\u202e"))
