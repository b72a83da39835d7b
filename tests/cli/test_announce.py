"""The first word of a command that takes seconds, before it composes, imports or reads anything."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.command import SURROUNDINGS, call_harness
from tests.support.warm import HARNESS

SLOW_VERBS = [
    ["train", "optim.lrr=1"],
    ["evaluate", "my-model", "optim.lrr=1"],
    ["sweep", "nothere"],
    ["reproduce", "nothere"],
    ["compare", "nothere"],
    ["confirm", "nothere"],
    ["best", "nothere", "--export", "it"],
    ["sync", "nothere"],
    ["show", "optim.lrr=1", "--shared-with", "optim.lrr=2"],
]


def on_a_terminal(arguments: list[str], cwd: Path, **env: str) -> list[str]:
    """The lines on stderr, a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([HARNESS, *arguments], cwd=cwd, env={**os.environ, **SURROUNDINGS, **env}, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # nobody holds the other end any more
        process.wait()
    os.close(ours)
    return said.decode().splitlines()


@pytest.mark.parametrize("arguments", SLOW_VERBS, ids=[verb for verb, *_ in SLOW_VERBS])
def test_it_says_what_it_is_about_to_do(tmp_path: Path, arguments: list[str]) -> None:
    first, *rest = on_a_terminal(arguments, tmp_path)
    assert first.endswith(" …")
    assert any("error: " in line for line in rest)


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_of_several_ranks_one_says_it(tmp_path: Path, variable: str) -> None:
    assert on_a_terminal(SLOW_VERBS[0], tmp_path, **{variable: "1"})[0].startswith("error: ")


@pytest.mark.parametrize("arguments", SLOW_VERBS, ids=[verb for verb, *_ in SLOW_VERBS])
def test_into_a_pipe_an_error_is_all_that_is_said(tmp_path: Path, arguments: list[str]) -> None:
    assert call_harness(*arguments, cwd=tmp_path).stderr.startswith("error: ")
