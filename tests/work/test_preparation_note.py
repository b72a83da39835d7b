"""What was prepared once is not looked at again, unless something about it has changed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from harness.config.load import load
from harness.config.schema import Config
from harness.runs.cache import default_cache_dir
from harness.work.preparation_note import is_prepared
from harness.work.prepare import prepare, prepare_apart, read_config
from tests.cli.test_light_imports import imported
from tests.support.command import call_harness
from tests.support.corpus import TinyText, tiny_text

AN_HOUR = 3600


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyText:
    """Text that was not written just now, and a cache of its own."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    made = tiny_text(tmp_path)
    for path in tmp_path.rglob("*"):
        age(path)
    return made


def age(path: Path) -> None:
    moment = path.stat().st_mtime - AN_HOUR
    os.utime(path, (moment, moment))


def ready(config: Config) -> bool:
    return is_prepared(config, os.environ)


def config_of(text: TinyText, *overrides: str) -> Config:
    return load([*text.overrides, *overrides]).config


def test_it_is_ready_once_it_was_prepared_for_this_very_configuration(text: TinyText) -> None:
    assert not ready(config_of(text))
    prepare(read_config(text.overrides))
    assert ready(config_of(text))
    assert not ready(config_of(text, "data.context_length=16"))
    assert not is_prepared(config_of(text), {**os.environ, "HARNESS_CACHE": "/elsewhere"})


def changed(text: TinyText, folder: Path) -> None:
    path = folder / "domain.jsonl"
    path.write_text(path.read_text().replace("a", "b"))


def gone(text: TinyText, folder: Path) -> None:
    (folder / "domain.jsonl").unlink()


def other_tokenizer(text: TinyText, folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer_config.json").touch()


def further_file_of_the_tokenizer(text: TinyText, folder: Path) -> None:
    (folder / "tokenizer" / "special_tokens_map.json").write_text("{}")


def cache_entry_gone(text: TinyText, folder: Path) -> None:
    shutil.rmtree(next(entry for entry in (default_cache_dir(None) / "tokens").iterdir() if entry.is_dir()))


@pytest.mark.parametrize("change", [changed, gone, other_tokenizer, further_file_of_the_tokenizer, cache_entry_gone])
def test_a_change_is_seen(text: TinyText, tmp_path: Path, change: Callable[[TinyText, Path], None]) -> None:
    prepare(read_config(text.overrides))
    config = config_of(text)
    assert ready(config)
    change(text, tmp_path)
    assert not ready(config)


def test_a_file_that_joins_a_directory_is_seen(text: TinyText, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    age(shutil.move(tmp_path / "domain.jsonl", folder / "1.jsonl"))
    overrides = [*text.overrides, f"data.sources.domain.path={folder}"]
    prepare(read_config(overrides))
    config = load(overrides).config
    assert ready(config)
    shutil.copy(folder / "1.jsonl", folder / "2.jsonl")
    assert not ready(config)


def test_all_files_of_a_list_of_paths_are_watched(text: TinyText, tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text('{"text": "something else"}\n')
    age(tmp_path / "more.jsonl")
    overrides = [*text.overrides, f"data.sources.domain.path=[{tmp_path}/domain.jsonl,{tmp_path}/more.jsonl]"]
    prepare(read_config(overrides))
    config = load(overrides).config
    assert ready(config)
    with (tmp_path / "more.jsonl").open("a") as stream:
        stream.write('{"text": "one more"}\n')
    assert not ready(config)


def test_the_cache_entry_of_a_validation_set_of_its_own_counts(text: TinyText, tmp_path: Path) -> None:
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(f'{{"text": "a word that nobody trains on, number {n}"}}\n' for n in range(8)))
    age(held_out)
    overrides = [*text.overrides, f"data.validation.other.path={held_out}"]
    before = tokenized()
    prepare(read_config(text.overrides))
    without = tokenized()
    prepare(read_config(overrides))
    config = load(overrides).config
    assert ready(config)
    (entry,) = tokenized() - without
    assert before == set()
    shutil.rmtree(default_cache_dir(None) / "tokens" / entry)
    assert not ready(config)


def tokenized() -> set[str]:
    folder = default_cache_dir(None) / "tokens"
    return {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.exists() else set()


def test_what_was_written_just_now_is_looked_at_again(text: TinyText, tmp_path: Path) -> None:
    moment = time.time() + 60  # however long it takes until it is looked at
    os.utime(tmp_path / "domain.jsonl", (moment, moment))
    prepare(read_config(text.overrides))
    assert not ready(config_of(text))
    assert not (default_cache_dir(None) / "prepared").exists()


@pytest.mark.slow
def test_a_second_preparation_starts_no_process(text: TinyText, tmp_path: Path) -> None:
    config = config_of(text)
    prepare_apart(config, text.overrides)
    started = AssertionError("it started a process")
    with mock.patch("harness.work.prepare.subprocess.run", side_effect=started):
        prepare_apart(config, text.overrides)
        (tmp_path / "domain.jsonl").write_text("no json\n")
        with pytest.raises(AssertionError, match="it started a process"):
            prepare_apart(config, text.overrides)


def test_what_was_said_of_the_data_is_said_again_without_importing_what_looks_at_them(text: TinyText, tmp_path: Path) -> None:
    looked = call_harness("data", *text.overrides, "--json", cwd=tmp_path)
    assert looked.rc == 0, looked
    assert imported("data", *text.overrides, "--json", cwd=tmp_path) & {"torch", "transformers", "tokenizers", "numpy"} == set()
    with mock.patch("harness.work.prepare.prepare", side_effect=AssertionError("it looked again")):
        assert call_harness("data", *text.overrides, "--json", cwd=tmp_path).stdout == looked.stdout
        assert "Training data" in call_harness("data", *text.overrides, cwd=tmp_path).stdout
        text.domain.touch()
        with pytest.raises(AssertionError, match="it looked again"):
            call_harness("data", *text.overrides, cwd=tmp_path)


def test_what_is_left_out_is_said_each_time(text: TinyText, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "harness")
    holed = tmp_path / "holed.jsonl"
    holed.write_text(text.domain.read_text() + '{"text": 5}\n')
    age(holed)
    overrides = [*text.overrides, f"data.sources.domain.path={holed}", "data.malformed=skip", "data.max_malformed_share=0.5"]
    for _ in range(2):
        caplog.clear()
        assert call_harness("data", *overrides, cwd=tmp_path).rc == 0
        assert "rows left out (data.malformed=skip)" in caplog.text
    assert ready(load(overrides).config), "the second time it did not look"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_numbers_are_whole_in_any_width(text: TinyText, tmp_path: Path, columns: int) -> None:
    prepare(read_config(text.overrides))
    document = json.loads(call_harness("data", *text.overrides, "--json", cwd=tmp_path).stdout)
    shown = call_harness("data", *text.overrides, cwd=tmp_path, env={"COLUMNS": str(columns), "FORCE_COLOR": "1"}).stdout
    assert "…" not in shown
    assert f"{document['tokens']:,}" in shown
