"""Every verb explains itself."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from harness.cli.main import app

VERBS = sorted(str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_explains_itself(verb: str) -> None:
    # Brackets in a text are markup to Rich, which raises for those it cannot read.
    done = CliRunner().invoke(app, [verb.replace("_", "-"), "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output
