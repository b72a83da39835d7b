"""Every verb explains itself."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.cli.verbs import HIDDEN, PANELS
from tests.support.command import call_harness

VERBS = sorted(str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_explains_itself(verb: str) -> None:
    # Brackets in a text are markup to Rich, which raises for those it cannot read.
    done = CliRunner().invoke(app, [verb.replace("_", "-"), "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output
    assert not re.search(r"<\w+", done.output), "types of Python's say nothing to users"
    hidden = {function.__name__.replace("_", "-") for function in HIDDEN}
    assert "Examples:" in done.output or verb.replace("_", "-") in hidden
    assert "-h" in done.output


def test_verbs_stand_in_panels() -> None:
    done = CliRunner().invoke(app, ["--help"])
    assert [title for title in re.findall(r"╭─ ([\w ]+?) ─", done.output) if title != "Options"] == list(PANELS)
    assert not re.search(r"<\w+", done.output)


@pytest.mark.parametrize("example", [example for verbs in PANELS.values() for _, examples in verbs for example in examples])
def test_an_example_names_a_verb_and_its_options(example: str) -> None:
    verb, *words = [word for word in shlex.split(example)[1:] if word != "…"]
    options = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
    assert all(word in options for word in words if word.startswith("--"))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--optim.lr=1e-3"], "optim.lr=1e-3"),
        (["--optim.lr", "1e-3"], "optim.lr=1e-3"),
        (["--learning_rate", "1e-3"], "optim.lr=1e-3"),
        (["--lora-r=8"], "adapter.rank=8"),
        (["--max_seq_length", "--json"], "data.context_length=VALUE"),
    ],
)
def test_a_key_behind_dashes_is_an_override(tmp_path: Path, words: list[str], meant: str) -> None:
    done = call_harness("show", *words, cwd=tmp_path)
    assert (done.rc, done.stdout) == (2, ""), done
    option = words[0].partition("=")[0]
    assert done.stderr == f"error: {option}: overrides are KEY=VALUE, without dashes: {meant}\n"


@pytest.mark.parametrize("verb", [function.__name__ for verbs in PANELS.values() for function, _ in verbs])
def test_a_help_text_is_broken_by_the_terminal_alone(verb: str) -> None:
    said = CliRunner().invoke(app, [verb.replace("_", "-"), "--help"], env={"COLUMNS": "500"}).output
    usage, *told = [line.strip() for line in said.partition("╭")[0].strip().splitlines()]
    while told[0]:  # a long usage has several lines
        usage = f"{usage} {told.pop(0)}"
    # A paragraph is a line, with blank ones around it.
    assert all("" in pair for pair in pairwise(told)), told
    assert not re.search(r"\[\[|\.\.\.[\]}]|[{[][a-z]\w*[]}]", usage), "brackets twice, or a name of Python's"
