"""harness dashboard: optuna-dashboard on a study."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from harness.cli.announce import announce
from harness.cli.arguments import StudyName
from harness.config.terminal import say


def dashboard(
    study: StudyName,
    port: Annotated[int, typer.Option(help="Of this machine's loopback address; 0 takes one that is free.")] = 8080,
) -> None:
    """Show a study in optuna-dashboard, live and read-only, on this machine alone, until Ctrl-C."""
    from harness.runs.directory import find_study
    from harness.search.dashboard import dashboard_server

    announce(f"reading {study}")
    server = dashboard_server(find_study(study), port)
    address, taken = server.server_address[:2]
    say(f"http://{address!s}:{taken}/  (Ctrl-C ends it; from elsewhere: ssh -L {taken}:{address!s}:{taken} THIS_MACHINE)")
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
