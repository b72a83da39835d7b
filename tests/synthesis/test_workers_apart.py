"""Workers in processes of their own: what they say, and how they are waited for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.config.errors import InputError
from harness.synthesis.directory import SynthDirectory
from harness.work import synth
from harness.work.synth import Begun, Progress, _say_once, _work_apart


def saying(command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["sh", "-c", command], stderr=subprocess.PIPE, text=True)


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Progress], int]:
    """Has one worker at work, which is a command of the shell."""

    def work(command: str, progress: Progress) -> int:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{command}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        monkeypatch.setattr(synth, "POLL_SECONDS", 0.01)
        plan = SimpleNamespace(shards=1, asks=1)
        return _work_apart(cast(Begun, SimpleNamespace(directory=SynthDirectory(tmp_path), plan=plan)), 1, progress, 0)

    return work


def test_errors_are_said_once_and_all_else_in_full(capfd: pytest.CaptureFixture[str]) -> None:
    said = dict[str, subprocess.Popen[str]]()
    for _ in range(2):
        with saying("printf 'error: no model\\nTraceback:\\n  here\\n' >&2") as process:
            _say_once(process, said)
    assert capfd.readouterr().err == "error: no model\nTraceback:\n  here\nTraceback:\n  here\n"


def test_a_worker_goes_on_where_nobody_reads_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **named: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(synth, "say", broken)
    with saying("seq 100000 >&2; exit 3") as process:  # more than a pipe holds
        _say_once(process, {})
        assert process.wait(10) == 3


def test_who_a_worker_left_behind_is_not_waited_for(
    apart: Callable[[str, Progress], int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(synth, "RELAY_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(InputError, match="a worker was refused what it needs"):
        apart("echo no model >&2; sleep 5 & exit 2", lambda *found: None)
    assert time.monotonic() - began < 4
    assert "no model" in capfd.readouterr().err


def test_last_words_are_said_when_it_is_broken_off(apart: Callable[[str, Progress], int], monkeypatch: pytest.MonkeyPatch) -> None:
    words = []

    def slowly(word: str, **named: Any) -> None:
        time.sleep(0.2)
        words.append(word)

    def interrupted(*found: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synth, "say", slowly)
    with pytest.raises(KeyboardInterrupt):
        apart("sleep 0.2; echo last >&2", interrupted)
    assert words == ["last"]
