"""Sources that are made by a recipe when a run needs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import DataConfig, SourceConfig, ValidationConfig
from harness.config.synth_path import made_sources
from tests.support.command import Done, call_harness, run_harness
from tests.support.corpus import TinyText


@pytest.fixture
def made(tiny: list[str], tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> list[str]:
    """A run on forty continuations of the domain's documents."""
    source = "data.sources.domain"
    return [
        *tiny,
        f"{source}.path=synth:continuations",
        f"{source}.synth.seeds.docs.path={tiny_text.domain}",
        f"{source}.synth.teachers.teacher.model={tiny_model}",
        f"{source}.synth.rows=40",
        f"{source}.synth.steps.text.template='{{{{ docs.text[:20] }}}}'",
        f"{source}.synth.steps.text.max_new_tokens=8",
        f"data.cache_dir={tmp_path / 'cache'}",
    ]


def result(tmp_path: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / name / "result.json").read_text())
    return found


def train(tmp_path: Path, name: str, words: list[str]) -> Done:
    done = run_harness("train", *words, "--dir", name, cwd=tmp_path)
    assert done.rc == 0, done
    return done


@pytest.mark.slow
def test_what_teachers_wrote_is_shared_and_its_cost_is_told(made: list[str], tmp_path: Path) -> None:
    train(tmp_path, "first", made)
    train(tmp_path, "again", made)
    train(tmp_path, "filtered", [*made, "data.sources.domain.synth.filters.characters.max=9000"])
    first, again, filtered = (result(tmp_path, name) for name in ("first", "again", "filtered"))
    spent = first["teachers"]["spent"]
    assert spent > 0
    assert first["teachers"]["shared"] == 0
    assert again["teachers"] == filtered["teachers"] == {"spent": 0, "shared": spent}
    assert again["metrics"]["val/general/loss"] == first["metrics"]["val/general/loss"]
    assert again["fingerprints"]["data.sources.domain"] == first["fingerprints"]["data.sources.domain"]
    [pool] = (tmp_path / "cache" / "synth").iterdir()
    assert len(list((pool / "made").iterdir())) == 2
    compared = call_harness("compare", "first", "again", "--json", cwd=tmp_path)
    assert [run["teachers"]["spent"] + run["teachers"]["shared"] for run in json.loads(compared.stdout)["runs"]] == [spent, spent]
    assert "synth:continuations" in (tmp_path / "first" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("path=synth:nothing", "data.sources.domain: unknown recipe 'nothing'"),
        ("synth.steps.text.draws=0", "steps.text.draws=0: expected an integer >= 1"),
        ("synth.budget.tokens=5", "data.sources.domain.synth.budget.tokens=5: no room for all of its rows"),
        ("synth.filters.words.min=900", "data.sources.domain: no row is left"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named_by_its_source(made: list[str], tmp_path: Path, word: str, said: str) -> None:
    from harness.work.made_data import with_made_data

    config = load([*made, f"data.sources.domain.{word}"]).config
    with pytest.raises(InputError) as error:
        with_made_data(config)
    assert said in str(error.value)


def test_a_source_of_weight_0_is_made_only_where_an_evaluation_set_is_held_out_of_it() -> None:
    def sources(weight: float, **sets: ValidationConfig) -> list[str]:
        both = {"made": SourceConfig(path="synth:continuations", weight=weight), "real": SourceConfig(path="real.jsonl")}
        return made_sources(DataConfig(sources=both, validation=sets))

    assert sources(3.0) == ["made"]
    assert sources(0.0) == []
    assert sources(0.0, held=ValidationConfig(source="made", share=0.1)) == ["made"]


def test_a_strangers_configuration_does_not_say_whom_to_ask(tmp_path: Path) -> None:
    from harness.config.trust import config_wishes

    def wishes(key: str, value: Any) -> list[str]:
        return list(config_wishes([(f"data.sources.x.{key}", value)], tmp_path / "config.yaml"))

    assert wishes("synth.teachers.big.endpoint", "http://elsewhere/v1")
    assert wishes("synth.teachers.big.key_env", "SECRET")
    assert wishes("synth.teachers.big.overrides", ["model.liger=true"])
    assert wishes("synth.seeds.docs.path", "/etc/passwd")
    assert wishes("path", "synth:../elsewhere.yaml")
    assert not wishes("path", "synth:answers")
    assert not wishes("synth.steps.answer.sampling.temperature", 0.7)
