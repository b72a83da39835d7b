"""What is said of a configuration that is run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.load import load
from harness.config.validate import to_plain
from harness.work.reproduce import changed
from tests.support.corpus import TinyText


@pytest.mark.parametrize(
    ("override", "there", "here"),
    [
        ("data.generation.ask.every_evaluations=2", "None", "2"),
        ("sampling.temperature=0.5", "1.0", "0.5"),
        ("trainer.evaluation_batch_tokens=100", "16384", "100"),
        ("data.chat_template_kwargs.thinks=true", "absent", "True"),
        ("optim.lr=0.5", "0.001", "0.5"),
    ],
)
def test_a_key_that_changes_what_is_logged_is_told(tiny_text: TinyText, tmp_path: Path, override: str, there: str, here: str) -> None:
    (tmp_path / "ask.jsonl").write_text('{"prompt": "the"}\n')
    base = [*tiny_text.overrides, f"data.generation.ask.path={tmp_path / 'ask.jsonl'}", "sampling=temperature", "optim.lr=1e-3"]
    before = to_plain(load(base).config)
    key = override.partition("=")[0]
    found = {one.what: (one.there, one.here) for one in changed(before, load([*base, override]).config)}
    assert found[key] == (there, here)
    assert changed(before, load([*base, "data.max_epochs=100", "trainer.keep_checkpoints=3", "tracking.name=wandb"]).config) == []
    # Of a harness that had no such key yet.
    del before["data"]["generation"]["ask"]["every_evaluations"]
    assert changed(before, load(base).config) == []
