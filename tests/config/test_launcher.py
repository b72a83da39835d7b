"""Keys of a launcher that cannot be, alone or together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.checks.launcher import launcher_problems
from harness.config.errors import InputError
from harness.config.launcher import launcher_alone, load_launcher, split_launcher
from harness.config.launcher_schema import LauncherConfig
from harness.config.locations import choices, groups
from harness.config.schema import TrainerConfig

WRONG: list[tuple[dict[str, Any], TrainerConfig, str]] = [
    ({"time": "14400"}, TrainerConfig(), 'launcher.time=14400: expected "HH:MM:SS" or "D-HH:MM:SS", in quotes'),
    ({"time": "4:00"}, TrainerConfig(), "launcher.time=4:00: expected"),
    ({"time": "soon"}, TrainerConfig(), "launcher.time=soon: expected"),
    ({"time": "00:05:00", "signal_lead_seconds": 300}, TrainerConfig(), "not longer than launcher.signal_lead_seconds=300"),
    ({"memory": "64 GB"}, TrainerConfig(), "launcher.memory=64 GB: expected a number with its unit, e.g. 64G"),
    ({"tasks_per_node": 4}, TrainerConfig(devices=8), "launcher.tasks_per_node=4: valid: 1, or trainer.devices=8"),
    ({"tasks_per_node": 1}, TrainerConfig(devices=8, nodes=2), "launcher.tasks_per_node=1: with trainer.nodes=2"),
    ({"gpus_per_node": 4}, TrainerConfig(devices=8, accelerator="gpu"), "launcher.gpus_per_node=4: trainer.accelerator=gpu needs"),
    ({"environment": {"A-B": "1"}}, TrainerConfig(), "launcher.environment.A-B: no name of a variable"),
    ({"sbatch_options": ["exclude=node7"]}, TrainerConfig(), "launcher.sbatch_options='exclude=node7': expected an option"),
    ({"srun_options": ["--a\n--b"]}, TrainerConfig(), "launcher.srun_options="),
]


@pytest.mark.parametrize(("keys", "trainer", "message"), WRONG)
def test_what_cannot_be_is_one_line(keys: dict[str, Any], trainer: TrainerConfig, message: str) -> None:
    (problem,) = launcher_problems(LauncherConfig(name="slurm", **keys), trainer)
    assert problem.startswith(message) or message in problem
    assert not list(launcher_problems(LauncherConfig(), trainer)), "nothing of it concerns a launcher that reads none of it"


@pytest.mark.parametrize("time", ["04:00:00", "4:00:00", "1-00", "2-12:30:00", "100:00:00"])
def test_forms_of_time(time: str) -> None:
    problems = list(launcher_problems(LauncherConfig(name="slurm", time=time), TrainerConfig()))
    assert bool(problems) == (time == "1-00"), problems


def test_hours_in_yaml_without_quotes_are_not_taken_for_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "conf" / "local" / "launcher" / "here.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("defaults: [slurm, _self_]\ntime: 4:00:00\n")
    monkeypatch.chdir(tmp_path)
    (problem,) = launcher_problems(load_launcher(["launcher=here"]), TrainerConfig())
    assert "in quotes" in problem
    assert "local/launcher" not in groups(), "conf/local is a directory of groups, not a group"
    assert "here" in choices("launcher")


def test_the_launcher_is_told_from_the_run() -> None:
    assert split_launcher(["launcher=slurm", "optim.lr=1e-3", "++launcher.time=01:00:00"]) == (
        ["launcher=slurm", "++launcher.time=01:00:00"],
        ["optim.lr=1e-3"],
    )


def test_what_the_chosen_launcher_does_not_read_is_refused() -> None:
    with pytest.raises(InputError, match=r"launcher\.account has no effect with launcher\.name=local: only slurm reads it"):
        load_launcher(["launcher.account=me"])
    with pytest.raises(InputError, match=r"'optim\.lr=1': only the launcher can be chosen here"):
        launcher_alone(["optim.lr=1"])
    with pytest.raises(InputError, match=r"unknown key 'launcher\.tiem'.*Did you mean 'launcher\.time'"):
        launcher_alone(["launcher=slurm", "launcher.tiem=1"])
