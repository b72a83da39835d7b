"""What tests of every floor share. Nothing heavy is imported here: most tests need no torch."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import checkout, corpus, postgresql_server, warm
from tests.support.corpus import TinyText
from tests.support.slurm import cluster as slurm_cluster
from tests.support.slurm.cluster import Cluster

checkout.leave_out_what_commands_left()

ONCE = ("slurm", "postgresql", "shared")
"""Fixtures of which there is one for a whole test run: tests that ask for one are run by the same process. (The last: tests/recipes.)"""


def _scope(item: pytest.Item) -> str:
    """What stays in one process: a file's tests, which share what they make once, and all tests of a server."""
    mark = item.get_closest_marker("xdist_group")
    return mark.args[0] if mark else str(item.path)


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        warm.start_for_all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {})
        asked = {*getattr(item, "fixturenames", ())} - given.keys() | {*map(str, given.values())}
        for fixture in ONCE:
            if fixture in asked:
                item.add_marker(pytest.mark.xdist_group(fixture))
                break
    # What takes longest goes first: else one process would be at it alone in the end.
    slow = Counter(_scope(item) for item in items if item.get_closest_marker("slow") or item.get_closest_marker("long"))
    items.sort(key=lambda item: (-slow[_scope(item)], _scope(item)))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What was imported and collected stays until the end: the garbage collector need not go over it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup`, but tests of no group stay with the others of their file."""
    from xdist.scheduler import LoadGroupScheduling

    class GroupOrFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return super()._split_scope(nodeid).split("::")[0]

    return GroupOrFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is made once for several tests is not made in the checkout either."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("away"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenized text of the whole test run, of all its processes: the same few documents need not be tokenized for every test."""
    own = tmp_path_factory.getbasetemp()
    cache = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a database of this test run; tests that ask for it are skipped where there is no server to start, but not in CI."""
    yield from postgresql_server.serve()


@pytest.fixture(scope="session")
def _slurm_session() -> Iterator[Cluster]:
    yield from slurm_cluster.serve()


@pytest.fixture
def slurm(_slurm_session: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A real Slurm cluster of this test run, whole and without jobs; without Slurm, tests that ask for it are skipped, but not in CI."""
    for name, value in _slurm_session.environment.items():
        monkeypatch.setenv(name, value)
    yield _slurm_session
    _slurm_session.start()
    _slurm_session.end_jobs()
    _slurm_session.mend_all()


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, session_cache: Path) -> None:
    """No test, and no process that it starts, writes among the user's runs, reads the user's overlay or uploads anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HARNESS_CACHE", str(session_cache))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("HARNESS_CONFIG_DIR", raising=False)
    monkeypatch.delenv("SLURM_CONF", raising=False)


@pytest.fixture
def umask_of_a_group() -> Iterator[None]:
    """New files are for their owner and its group."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """On tiny tensors, threads that wait for each other cost a hundred times what is computed."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> TinyText:
    """Two small jsonl files and a tokenizer."""
    return corpus.tiny_text(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_text: TinyText) -> list[str]:
    """Overrides that make a complete configuration, which trains in about a second."""
    return tiny_text.overrides


@pytest.fixture(scope="session")
def tiny_model(tiny_text: TinyText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a saved pretrained model with its tokenizer."""
    return corpus.tiny_model(tmp_path_factory.mktemp("model"), tiny_text.tokenizer)
