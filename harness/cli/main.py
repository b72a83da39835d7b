"""`harness`: the verbs. Their modules are light; what is heavy is imported inside the function that needs it."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.cli.verbs import Verbs, register
from harness.config.errors import InputError
from harness.config.locations import CONFIG_DIR_VARIABLE, in_home
from harness.config.remote_code import trust
from harness.config.terminal import log_to_stderr, say
from harness.config.trust import trust_files
from harness.runs.exit_codes import BAD_INPUT, FAILED
from harness.runs.machine_faults import machine_fault

EPILOG = """Overrides are Hydra's: KEY=VALUE (optim.lr=1e-3) or GROUP=CHOICE (schedule=wsd). Exit codes: 0 done, 1 failed, 2 bad input.

Start with: harness quickstart"""

OF_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
"""Errors of the system that say all there is to say of a path."""

OF_HOME = re.compile(r"^(--[\w-]+=|)~(?=/|$)")
"""A path that no shell has written out: behind --option=, or in quotes."""

LONG_WORD = re.compile(r"(\S{200})\S{400,}(\S{100})")
"""What a damaged file makes of a name, say: a message shows its ends."""

app = typer.Typer(
    name="harness",
    cls=Verbs,
    help="Find, trust and reuse the hyperparameters of continued pretraining and fine-tuning of language models.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        say(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def options(
    config_dir: Annotated[
        Path | None, typer.Option(help="A directory of configuration that overlays ./conf and the harness's own.")
    ] = None,
    trust_remote_code: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Run the code that this model, tokenizer or task of lm_eval brings; named as in the config."),
    ] = None,
    trust_file: Annotated[
        list[str] | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="Let this file of somebody else, all below this directory, or this recipe (best/NAME) say where things go and what runs.",
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    if config_dir is not None:
        # Workers and their trials inherit it.
        os.environ[CONFIG_DIR_VARIABLE] = str(config_dir.resolve())
    if trust_remote_code:
        trust(trust_remote_code)
    if trust_file:
        trust_files(trust_file)


register(app)


def _in_home(found: re.Match[str]) -> str:
    return f"{found[1]}{in_home('~')}"


def _refuse_a_lost_directory() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError("the directory in which this was called is gone; valid: one that is there (cd)") from None


def main() -> None:
    """The console script. Bad input ends in one message and exit code 2, without a traceback."""
    # Before torch is loaded, and for workers too: threads of a CPU run that wait for each other by spinning bring a shared machine, and
    # themselves, to a crawl (a third of the tokens/s beside two other busy processes).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A terminal of another encoding shows a mark for what it lacks.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stdin is None:  # closed: who reads it meets its end
        sys.stdin = io.TextIOWrapper(io.BytesIO())
    log_to_stderr("%(message)s")
    try:
        _refuse_a_lost_directory()
        app(args=[OF_HOME.sub(_in_home, word) for word in sys.argv[1:]])
    except InputError as error:
        for line in LONG_WORD.sub(r"\1…\2", str(error)).splitlines():
            say(f"error: {line}" if not line.startswith("  ") else line, err=True)
        sys.exit(BAD_INPUT)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OF_PATHS and error.filename is not None:
            say(f"error: {error.filename}: {error.strerror}", err=True)
            sys.exit(BAD_INPUT)
        fault = machine_fault(error)
        if fault is None:
            raise
        say(f"error: {fault if isinstance(error, OSError) else f'{error}; {fault.disk}'}", err=True)
        sys.exit(FAILED)
