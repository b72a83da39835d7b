"""Where values come from, and how numbers and lengths are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.config.checks.trainer import token_bound
from harness.config.errors import InputError
from harness.config.length import Length, parse_length
from harness.config.load import Loaded, load
from harness.config.locations import CONFIG_DIR_VARIABLE, choices, shipped
from harness.config.nested import lookup
from harness.config.schema import Config, TrainerConfig
from harness.config.validate import to_plain


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2e6 tokens", Length(2e6, "tokens")),
        ("2_000_000 tokens", Length(2e6, "tokens")),
        ("1 token", Length(1, "tokens")),
        ("100 steps", Length(100, "steps")),
        ("10%", Length(0.1, "fraction")),
        ("2.5 %", Length(0.025, "fraction")),
        (0.1, Length(0.1, "fraction")),
        (0, Length(0, "steps")),
        (0.0, Length(0.0, "fraction")),
        (1, Length(1, "steps")),
        (1.0, Length(1.0, "fraction")),
        (100, Length(100, "steps")),
        (2e3, Length(2000, "steps")),
    ],
)
def test_lengths(given: float | str, expected: Length) -> None:
    assert parse_length("schedule.warmup", given) == expected


@pytest.mark.parametrize("given", ["", "tokens", "ten steps", "1e tokens", "-1 steps", "120%", "5 epochs", -1, -0.5, 1.5, "0.1"])
def test_what_is_no_length(given: float | str) -> None:
    with pytest.raises(InputError, match=r"^schedule\.warmup=.*2e6 tokens"):
        parse_length("schedule.warmup", given)


def test_lengths_in_steps() -> None:
    def steps(length: str | float) -> int:
        return parse_length("k", length).steps(total_steps=50, batch_tokens=1000)

    assert [steps(0.1), steps("10%"), steps(7), steps("7 steps"), steps("20e3 tokens")] == [5, 5, 7, 7, 20]


def test_whole_numbers_may_be_written_with_an_exponent(tiny: list[str]) -> None:
    config = load([*tiny, "trainer.max_steps=null", "trainer.max_tokens=2e6", "seed=1e3"]).config
    assert config.trainer.max_tokens == 2_000_000
    assert isinstance(config.trainer.max_tokens, int)
    assert isinstance(config.seed, int)
    # YAML 1.1 would take 1e-4 for text.
    assert load([*tiny, "optim.lr=1e-4"]).config.optim.lr == 1e-4


def test_a_name_may_look_like_a_number(tiny: list[str]) -> None:
    config = load([*tiny, "tracking=wandb", "tracking.project=2024"]).config
    assert config.tracking.project == "2024"


# Overlays.


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_nearest_overlay_wins(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load([*tiny, "schedule=wsd"]).config.schedule.floor == 0
    here = write(tmp_path / "conf/schedule/wsd.yaml", "name: wsd\nfloor: 0.1\n")
    loaded = load([*tiny, "schedule=wsd"])
    assert loaded.config.schedule.floor == 0.1
    assert loaded.composed.origin("schedule.floor") == str(here)
    given = write(tmp_path / "mine/schedule/wsd.yaml", "name: wsd\nfloor: 0.2\n")
    monkeypatch.setenv(CONFIG_DIR_VARIABLE, str(tmp_path / "mine"))
    loaded = load([*tiny, "schedule=wsd"])
    assert loaded.config.schedule.floor == 0.2
    assert loaded.composed.origin("schedule.floor") == str(given)


def test_an_overlay_adds_choices_to_those_that_ship(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "conf/schedule/mine.yaml", "name: cosine\nfloor: 0.1\n")
    write(
        tmp_path / "conf/experiment/best/winner.yaml", "# @package _global_\ndefaults:\n  - override /schedule: mine\noptim: {lr: 0.25}\n"
    )
    assert {"mine", "wsd"} <= set(choices("schedule"))
    assert "best/winner" in choices("experiment")
    config = load([*tiny, "experiment=best/winner"]).config
    assert (config.schedule.name, config.schedule.floor, config.optim.lr) == ("cosine", 0.1, 0.25)


def test_the_command_line_wins_over_files_and_the_experiment_over_groups(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "conf/optim/mine.yaml", "name: adamw\nlr: 0.1\nweight_decay: 0.1\neps: 0.1\n")
    path = write(tmp_path / "conf/experiment/mine.yaml", "# @package _global_\noptim: {weight_decay: 0.2, eps: 0.2}\n")
    loaded = load([*tiny, "optim=mine", "experiment=mine", "optim.eps=0.3"])
    optim = loaded.config.optim
    assert (optim.lr, optim.weight_decay, optim.eps) == (0.1, 0.2, 0.3)
    assert loaded.composed.origin("optim.lr") == str(tmp_path / "conf/optim/mine.yaml")
    assert loaded.composed.origin("optim.weight_decay") == str(path)
    assert loaded.composed.origin("optim.eps") == "the command line"
    assert loaded.composed.origin("optim.betas") is None


def test_a_working_directory_without_configuration_uses_the_harness_s_own(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load([*tiny, "schedule=wsd"]).composed.origin("schedule.name") == str(shipped("conf") / "schedule/wsd.yaml")


# Provenance.


def show(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, ["show", *arguments], env={"COLUMNS": "300", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_says_where_each_value_comes_from(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "conf/experiment/mine.yaml", "# @package _global_\noptim: {lr: 0.25}\n")
    lines = [line.strip() for line in show([*tiny, "experiment=mine", "schedule=wsd", "optim.eps=1e-6"]).splitlines()]
    assert "lr: 0.25  # conf/experiment/mine.yaml" in lines
    assert "eps: 1.0e-06  # the command line" in lines
    assert "weight_decay: 0.1" in lines
    assert "name: wsd  # harness:schedule/wsd.yaml" in lines


def test_show_prints_what_a_config_file_may_hold(tiny: list[str], tmp_path: Path) -> None:
    """Its output is YAML: comments say where values come from."""
    from harness.config.load import load_file

    path = write(tmp_path / "config.yaml", show(tiny))
    assert load_file(path) == load(tiny).config


def test_show_as_json(tiny: list[str]) -> None:
    document = json.loads(show([*tiny, "schedule=wsd", "optim.lr=0.5", "--json"]))
    assert document["config"]["optim"]["lr"] == 0.5
    assert document["origins"]["optim.lr"] == "the command line"
    assert document["origins"]["schedule.name"].endswith("conf/schedule/wsd.yaml")
    assert document["groups"]["schedule"] == "wsd"


def test_a_trials_values_come_from_the_space(tiny: list[str]) -> None:
    loaded: Loaded = load(tiny).with_values({"optim.lr": 0.5})
    assert loaded.config.optim.lr == 0.5
    assert loaded.composed.origin("optim.lr") == "the space"
    with pytest.raises(InputError, match=r"optim\.lr=-1.*the space"):
        load(tiny).with_values({"optim.lr": -1})


HOME_PATHS = ("model.path", "tokenizer.path", "model.checkpoint", "objective.teacher", "data.chat_template", "data.cache_dir")


@pytest.mark.parametrize("key", [*HOME_PATHS, "data.sources.docs.path", "data.validation.docs.path", "data.multiple_choice.quiz.path"])
def test_a_tilde_is_home_in_every_path(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    config = load(["objective=distill", f"{key}='~/x/y.jinja'"], checked_by=lambda config: None).config
    assert lookup(to_plain(config), key) == "/home/ann/x/y.jinja"


def test_epochs_alone_bound_no_tokens_before_the_data_is_seen() -> None:
    config = Config(trainer=TrainerConfig(max_epochs=3))
    with pytest.raises(InputError, match=r"trainer\.max_epochs=3: not alone in a study.*beside it trainer\.max_tokens"):
        token_bound(config)
    assert token_bound(replace(config, trainer=TrainerConfig(max_epochs=3, max_steps=2, batch_tokens=512))) == 1024
