"""Data by address and by hub name: fetched once, read like any other, out of reach in one message."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from datasets import Dataset, DatasetDict

from harness.config.checks import check_input
from harness.config.errors import InputError
from harness.config.remote_path import hub_name, is_remote
from harness.config.schema import DataConfig, SourceConfig, ValidationConfig
from harness.data.remote import local_path
from harness.data.sources import find_sources
from harness.data.tokenization import Tokenization
from tests.data.conftest import SmallTokenizer

KEY = "data.sources.docs"
ROWS = [{"text": f"the quick fox {number}"} for number in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server on the loopback interface, and what it was asked for."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "docs.jsonl").write_bytes(LINES)
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *args: object) -> None:
            asked.append(self.path)

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www")))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    running.server_close()


def fetch(path: str, tmp_path: Path, subset: str | None = None) -> str:
    return local_path(path, subset, key=KEY, cache_dir=tmp_path / "cache")


def test_an_address_is_fetched_once(server: tuple[str, list[str]], tmp_path: Path, tokenizer: SmallTokenizer) -> None:
    address, asked = server
    source = SourceConfig(path=f"{address}/docs.jsonl")
    config = DataConfig(sources={"docs": source}, cache_dir=str(tmp_path / "cache"))
    first = Tokenization(config, tokenizer).of_source("docs")
    assert first.documents == 3
    before = len(asked)
    assert Tokenization(config, tokenizer).of_source("docs").fingerprint == first.fingerprint
    assert len(asked) == before > 0
    (tmp_path / "docs.jsonl").write_bytes(LINES)
    local = DataConfig(sources={"docs": SourceConfig(path=str(tmp_path / "docs.jsonl"))}, cache_dir=str(tmp_path / "cache"))
    assert Tokenization(local, tokenizer).of_source("docs").fingerprint == first.fingerprint  # of the content


def test_files_and_directories_of_other_file_systems(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/a/one.jsonl": LINES, "/bucket/a/deep/two.jsonl": LINES})
    assert Path(fetch("memory://bucket/a/one.jsonl", tmp_path)).read_bytes() == LINES
    directory = Path(fetch("memory://bucket/a", tmp_path))
    assert sorted(str(file.relative_to(directory)) for file in directory.rglob("*.jsonl")) == ["deep/two.jsonl", "one.jsonl"]
    memory.pipe({"/bucket/b/three.jsonl": LINES, "/bucket/b/four.csv": b"text"})
    found = find_sources(["memory://bucket/b/*.jsonl", "memory://bucket/a/deep"], key=KEY, cache_dir=tmp_path / "cache")
    assert [file.name for file in found.files] == ["three.jsonl", "two.jsonl"]


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1:9/docs.jsonl",
        "memory://absent/docs.jsonl",
        "memory://absent/*.jsonl",
        "nosuch://bucket/docs.jsonl",
        "hf://datasets/org/name/docs.jsonl",
        "hf://datasets/org/name",
        "org/name",
    ],
)
def test_what_is_out_of_reach_is_said_soon(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("harness.data.remote.ANSWER_SECONDS", 2.0)
    begun = time.monotonic()
    with pytest.raises(InputError, match=rf"{KEY}\.path={re.escape(path)}: .*cannot be fetched") as caught:
        fetch(path, tmp_path)
    assert time.monotonic() - begun < 5
    assert "\n" not in str(caught.value)
    assert not [entry for entry in (tmp_path / "cache" / "remote").iterdir() if entry.is_dir()]


@pytest.mark.parametrize("path", ["org/name", "silent://bucket/docs.jsonl"])
def test_what_never_answers_is_said_soon(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where looking up a host takes half a minute, and libraries try again and again."""

    class Silent(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = "silent"

        def info(self, path: str, **options: Any) -> dict[str, Any]:
            time.sleep(60)
            return {}

    fsspec.register_implementation("silent", Silent, clobber=True)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *args, **options: time.sleep(60))
    monkeypatch.setattr("harness.data.remote.ANSWER_SECONDS", 0.2)
    begun = time.monotonic()
    with pytest.raises(InputError, match=rf"{KEY}\.path={path}: .*cannot be fetched \(TimeoutError: no answer within 0\.2 seconds\)"):
        fetch(path, tmp_path)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_a_package_that_is_missing_is_named(protocol: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"path={protocol}://b/x\.jsonl: {protocol}:// needs {package}, .*: pip install {package} \("):
        fetch(f"{protocol}://b/x.jsonl", tmp_path)


def test_a_file_that_a_server_lacks(server: tuple[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.jsonl: it cannot be fetched \(FileNotFoundError"):
        fetch(f"{server[0]}/absent.jsonl", tmp_path)


@pytest.mark.parametrize("path", ["org/name@v1", "hf://datasets/org/name@v1"])
def test_a_data_set_of_the_hub(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: SmallTokenizer) -> None:
    """The hub itself is not asked: what the library makes of a name is read like what it saved."""
    loaded: list[Any] = []

    def load(*args: Any, **options: Any) -> DatasetDict:
        loaded.append((args, options))
        return DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])})

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, name, **options: SimpleNamespace(sha=f"commit of {name}"))
    monkeypatch.setattr("datasets.load_dataset", load)
    sources = {"docs": SourceConfig(path=path, subset="en", split="train")}
    held_out = {"docs": ValidationConfig(path=path, subset="en", split="test")}
    tokens = Tokenization(DataConfig(sources=sources, validation=held_out, cache_dir=str(tmp_path / "cache")), tokenizer)
    assert tokens.of_source("docs").documents == 3
    assert tokens.of_path("data.validation.docs", held_out["docs"]).documents == 1
    assert loaded == [(("org/name", "en"), {"revision": "commit of org/name"})]
    with pytest.raises(InputError, match=r"it has|has the splits train, test; choose one with data\.sources\.docs\.split"):
        tokens.files(KEY, SourceConfig(path=path, subset="en"))


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    local = ["docs.jsonl", "here/x", "data/docs.jsonl", "/a/b", "./a/b", "a/b/c", "a/*.jsonl", "~/docs"]
    assert not [path for path in local if is_remote(path)]
    assert [hub_name(path) for path in ("org/name", "hf://datasets/org/name", "org/name@main")] == ["org/name", "org/name", "org/name@main"]
    assert is_remote("s3://bucket/x.jsonl")
    with pytest.raises(InputError, match=r"data\.sources\.docs\.subset=en: docs\.jsonl has no subsets"):
        fetch("docs.jsonl", tmp_path, "en")
    with pytest.raises(InputError, match=r"data/docs\.jsonl: no such file or directory"):
        check_input(config_of("data/docs.jsonl"))


def config_of(path: str) -> Any:
    from harness.config.schema import Config

    return Config(data=DataConfig(sources={"docs": SourceConfig(path=path)}))
