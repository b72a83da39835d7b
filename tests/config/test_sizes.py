"""Values that no machine can hold are refused before anything is allocated."""

from __future__ import annotations

import pytest

from harness.config.errors import InputError
from harness.config.load import load


@pytest.mark.parametrize(
    ("override", "more"),
    [
        ("trainer.threads=100000", []),
        ("trainer.threads=1000000000000000000", []),
        ("trainer.max_steps=1000000000000", []),
        ("trainer.max_tokens=1e18", ["trainer.max_steps=null"]),
        ("trainer.batch_tokens=1e15", []),
        ("trainer.log_every_steps=1e17", []),
        ("model.layers=10000000", []),
        ("model.hidden_size=1000000", ["model.heads=1", "model.layers=1000"]),
        ("data.context_length=1e12", ["model.max_context=1e9"]),
    ],
)
def test_they_are_refused(tiny: list[str], override: str, more: list[str]) -> None:
    key = override.partition("=")[0]
    with pytest.raises(InputError, match=rf"^{key}=\d+: (more than|with)"):
        load([*tiny, *more, override])


def test_large_ones_are_not(tiny: list[str]) -> None:
    assert load([*tiny, "trainer.threads=512", "trainer.max_steps=10000000", "seed=4294967295"]).config.trainer.threads == 512
