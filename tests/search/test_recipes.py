"""What a recipe is worth elsewhere: priors from its trials, and what is said where it does not carry over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.config.errors import InputError
from harness.config.load import Loaded, load
from harness.config.schema import ModelConfig
from harness.config.validate import to_plain
from harness.runs.bundle import Bundle, BundleDirectory
from harness.runs.files import write_yaml
from harness.runs.result import Tokens
from harness.runs.trials_table import read_trials, write_trials
from harness.search.bundle_prior import prior_of
from harness.search.scaling import fit_scaling, model_size
from harness.search.space import parse_space
from harness.search.transfer import transfer_notes
from tests.search.conftest import SPACE
from tests.support.command import call_harness

METRIC = "val/domain/loss"


@pytest.fixture
def write_recipe(tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a recipe of the tiny configuration, with overrides, whose trials had these rates; the best comes first."""
    monkeypatch.setenv("HARNESS_CONFIG_DIR", str(tmp_path))

    def write(
        name: str,
        *overrides: str,
        rates: tuple[float, ...] = (1e-2,),
        tokens: int = 512,
        shared: int = 0,
        trained_again: int = 0,
        metric: str = METRIC,
    ) -> BundleDirectory:
        config = load([*tiny, f"optim.lr={rates[0]}", *overrides]).config
        directory = BundleDirectory(tmp_path / "experiment/best" / name)
        write_yaml(directory.config, to_plain(config))
        row = {"role": "search", "state": "complete", "feasible": True}
        write_trials(directory.trials, [{**row, "params.optim.lr": rate, "objective": 2 + rank} for rank, rate in enumerate(rates)])
        directory.write(
            Bundle(
                name=name,
                created="2026-01-01",
                study="s",
                trial=0,
                trials=len(rates),
                base=[],
                task={"objective": config.objective.name, "adapter": config.adapter.name},
                model={"name": "llama from scratch", "size": model_size(config.model), "parameters": {}},
                metric=metric,
                direction="minimize",
                objective=2.0,
                confirmed=False,
                interval=None,
                seeds=[],
                noise=None,
                params={"optim.lr": rates[0]},
                space={"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
                groups={"optim": "adamw", "schedule": "linear", "model": "llama_1m"},
                seed=0,
                steps=4,
                tokens=Tokens(trained=tokens - shared + trained_again, shared=shared, budgeted=tokens - shared, position=tokens),
                seconds=1.0,
                versions={},
                git_commit=None,
                fingerprints={},
                hardware={},
            )
        )
        return directory

    return write


def test_a_prior_lies_around_what_a_recipe_chose_as_wide_as_its_best_trials(write_recipe: Any) -> None:
    write_recipe("wide", rates=(1e-2, 4e-2, 2.5e-3, *[1e-4] * 9))
    prior, notes = prior_of(["best/wide"], parse_space(SPACE))
    # The best quarter of 12: factors of 4 on both sides, and the middle.
    assert prior == {"optim.lr": {"mean": pytest.approx(1e-2), "spread": pytest.approx(4 ** (2 / 3) ** 0.5)}}
    assert notes == ["prior of optim.lr: 0.01, spread a factor of 3.1, from best/wide"]


def test_several_recipes_are_pooled_and_few_trials_are_no_certainty(write_recipe: Any) -> None:
    write_recipe("one", rates=(1e-3,))
    write_recipe("other", rates=(1e-2,))
    prior, _ = prior_of(["best/one"], parse_space(SPACE))
    assert prior["optim.lr"]["spread"] == pytest.approx(3.0)
    pooled, _ = prior_of(["best/one", "best/other", "best/absent"], parse_space(SPACE))
    assert pooled["optim.lr"]["mean"] == pytest.approx(10**-2.5)
    assert pooled["optim.lr"]["spread"] > 3.0


def used(tiny: list[str], *overrides: str) -> Loaded:
    return load([*tiny, *overrides])


def test_nothing_is_said_where_a_recipe_is_used_as_it_was_found(write_recipe: Any, tiny: list[str]) -> None:
    # Its run shared half of its length, and trained some of the rest twice after a kill: it is 512 tokens long all the same.
    directory = write_recipe("winner", "optim.lr=1e-3", shared=256, trained_again=700)
    assert transfer_notes("winner", directory, used(tiny)) == []
    assert transfer_notes("winner", directory, used(tiny, "seed=7", "data.replay_share=0.1")) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.batch_tokens=256"], "found at trainer.batch_tokens=128, used at 256"),
        (["trainer.max_steps=40"], "found over 512 tokens, used over 5,120"),
        (["trainer.max_steps=40", "schedule.warmup=2"], "schedule.warmup=2 does not grow with it"),
        (["model.hidden_size=64"], "the best rate of a wider or deeper model is commonly lower"),
        (["adapter=lora", "trainer.final_checkpoint=none"], "about 10 times the rate of full training"),
        (["optim=lion"], "rates of different optimizers do not compare"),
    ],
)
def test_what_does_not_carry_over_is_said(overrides: list[str], said: str, write_recipe: Any, tiny: list[str]) -> None:
    directory = write_recipe("winner")
    notes = transfer_notes("winner", directory, used(tiny, *overrides))
    assert any(said in note for note in notes), notes
    assert any("no recipe here shows how its rate scales" in note for note in notes)
    assert not any("scales" in note for note in transfer_notes("winner", directory, used(tiny, *overrides, "optim.lr=1e-5")))


def test_recipes_of_two_sizes_predict_the_rate_of_a_third(write_recipe: Any, tiny: list[str]) -> None:
    widths = {"small": 32, "large": 128}
    sizes = {name: model_size(ModelConfig(hidden_size=width, intermediate_size=64, layers=2, heads=2)) for name, width in widths.items()}
    for name, width in widths.items():
        write_recipe(name, f"model.hidden_size={width}", rates=(10.0 / sizes[name],))
    write_recipe("of-another-task", "adapter=lora", rates=(0.09,))
    write_recipe("of-another-metric", rates=(0.09,), metric="val/general/loss")
    loaded = used(tiny, "model.hidden_size=64")
    small = BundleDirectory(Path(write_recipe("small", "model.hidden_size=32", rates=(10.0 / sizes["small"],)).path))
    offered = next(note for note in transfer_notes("small", small, loaded) if "power law" in note)
    assert "over 2 recipes (best/large, best/small)" in offered
    assert f"optim.lr={10.0 / model_size(loaded.config.model):.3g} here" in offered


def test_a_bundle_with_numbers_that_json_does_not_have_is_damaged(write_recipe: Any) -> None:
    directory = write_recipe("strange")
    file = directory.path / "bundle.json"
    file.write_text(file.read_text().replace('"objective": 2.0', '"objective": NaN'))
    with pytest.raises(InputError, match=r"bundle\.json: damaged: it is no JSON"):
        directory.read()


def test_a_power_law_is_fitted_to_recipes_as_to_studies(write_recipe: Any) -> None:
    write_recipe("short", rates=(4e-3,), tokens=1000, trained_again=900)
    write_recipe("long", rates=(1e-3,), tokens=16000, shared=15000)
    law = fit_scaling(["best/short", "best/long"], objective=METRIC).rate
    assert (law.tokens, law.size) == (pytest.approx(-0.5), 0.0)
    with pytest.raises(InputError, match="best/absent has no bundle"):
        fit_scaling(["best/absent"], objective=METRIC)


DAMAGES: list[dict[str, Any]] = [
    {"model": {"name": "x", "parameters": None}},
    {"model": {"name": "x", "parameters": {"total": "x"}}},
    {"model": 5},
    {"confirmed": True, "confirmation": {"candidates": 5}},
    {"confirmed": True, "confirmation": {"candidates": [], "probability_best": "x"}},
    {"interval": [1]},
    {"name": "half a pair \ud800"},
    {"objective": float("nan")},
    {"trials": 10**50},
    {"tokens": {"trained": "many"}},
]


def test_damaged_recipes_leave_the_others(write_recipe: Any, tmp_path: Path) -> None:
    good = write_recipe("good").path
    document = json.loads((good / "bundle.json").read_text())
    contents = [*(json.dumps({**document, **change}) for change in DAMAGES), "[" * 100_000, ""]
    for number, content in enumerate(contents):
        damaged = good.with_name(f"strange{number}")
        damaged.mkdir()
        (damaged / "bundle.json").write_text(content)
    for more in ([], ["--json"]):
        done = call_harness("recipes", *more, cwd=tmp_path)
        assert done.rc == 0, done
        assert "good" in done.stdout, done
        for number in range(len(contents)):
            assert f"strange{number}: left out: " in done.stderr, done
        assert done.stderr.count("bundle.json: damaged: ") == len(contents), done


def test_the_words_of_a_recipe_are_printed_as_they_stand(write_recipe: Any, tmp_path: Path) -> None:
    file = write_recipe("strange").path / "bundle.json"
    document = json.loads(file.read_text())
    document |= {"metric": "val/[/red]/loss", "model": {"name": "[INST]\x1b]0;owned\x07[/INST]"}}
    file.write_text(json.dumps(document))
    done = call_harness("recipes", cwd=tmp_path)
    assert done.rc == 0, done
    assert "val/[/red]/loss" in done.stdout, done
    assert r"[INST]\x1b]0;owned\x07[/INST]" in done.stdout, done


def test_on_a_narrow_terminal_no_name_is_cut(write_recipe: Any, tmp_path: Path) -> None:
    file = write_recipe("with_a_name_of_thirty_letters").path / "bundle.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model": {"name": "a-model-" * 9}}))
    done = call_harness("recipes", cwd=tmp_path, env={"COLUMNS": "80", "FORCE_COLOR": "1"})
    assert done.rc == 0, done
    assert "with_a_name_of_thirty_letters" in done.stdout, done
    assert "Left out in this width: exported, tokens, model" in done.stdout, done
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()) <= 80


@pytest.mark.parametrize("column", [pa.array([2**62], pa.timestamp("ms")), pa.array([2**62], pa.duration("ms"))])
def test_a_table_of_times_that_python_has_no_name_for_is_one_message(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "trials.parquet")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_trials(tmp_path / "trials.parquet")
