"""Small runs that start in milliseconds: a Llama of two layers on a few hundred short documents."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.config.load import load
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from tests.support.corpus import TinyText

NewRun = Callable[..., tuple[Config, RunDirectory]]


@pytest.fixture
def new_run(tiny_text: TinyText, tmp_path: Path) -> NewRun:
    """Make the directory of a run, called `name`, with overrides on top of the tiny configuration."""

    def make(name: str, *overrides: str) -> tuple[Config, RunDirectory]:
        config = load([*tiny_text.overrides, *overrides]).config
        run = RunDirectory(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        write_yaml(run.config, to_plain(config))
        return config, run

    return make


@pytest.fixture(autouse=True)
def _own_signal_handlers() -> Iterator[None]:
    """A run in this process takes over its signals; they are given back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
