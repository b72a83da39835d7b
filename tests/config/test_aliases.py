"""What other tools call a key is understood, in messages."""

from __future__ import annotations

import pytest

from harness.config.aliases import ALIASES
from harness.config.errors import InputError
from harness.config.introspect import find
from harness.config.locations import groups
from harness.config.overrides import parse
from harness.config.schema import Config
from harness.config.validate import to_section


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_names_what_there_is(alias: str) -> None:
    key = ALIASES[alias]
    assert key in groups() or find(Config, key) is not None or key in ("--dir", "--max-new-tokens")
    if find(Config, alias) is None and alias not in groups():
        with pytest.raises(InputError, match=rf"unknown key '{alias}'.*It is {key} here\."):
            parse([f"{alias}=1"], Config)


@pytest.mark.parametrize("key", ["optim.learning_rate", "trainer.learning-rate", "optim.Learning_Rate"])
def test_an_alias_is_known_in_any_section_and_spelling(key: str) -> None:
    with pytest.raises(InputError, match=r"It is optim\.lr here"):
        to_section(Config, {key.partition(".")[0]: {key.partition(".")[2]: 1e-3}})


@pytest.mark.parametrize(("value", "written"), [("1B", "1e9"), ("8k", "8e3"), ("1.5m", "1.5e6"), ("2T", "2e12")])
def test_a_number_with_a_unit_is_told_how_it_is_written(value: str, written: str) -> None:
    with pytest.raises(InputError, match=rf"expected an integer >= 1 or null; {value} is written {written}"):
        to_section(Config, {"trainer": {"max_tokens": value}})


def test_a_model_s_name_goes_to_its_path() -> None:
    with pytest.raises(InputError, match=r"model=pretrained model\.path=gpt2"):
        parse(["model=gpt2"], Config)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("packing", "data.packing"),
        ("trainer.weight_decay", "optim.weight_decay"),
        ("adapter.r", "adapter.rank"),
        ("temperature", r"objective\.temperature or sampling.temperature"),
    ],
)
def test_a_key_in_the_wrong_section_is_told_its_own(key: str, meant: str) -> None:
    with pytest.raises(InputError, match=rf"unknown key '{key}'.*It is {meant} here\."):
        parse([f"{key}=1"], Config)


def test_a_name_that_several_sections_have_is_not_guessed() -> None:
    with pytest.raises(InputError) as refused:
        parse(["path=x"], Config)
    assert "It is" not in str(refused.value)
