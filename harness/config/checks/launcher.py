"""What a launcher's keys must agree on, with each other and with the run that is launched."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.config.launcher_schema import LauncherConfig
from harness.config.remote_code import TRUST_VARIABLE
from harness.config.schema import TrainerConfig
from harness.config.trust import FILES_VARIABLE

TRUST_VARIABLES = (TRUST_VARIABLE, FILES_VARIABLE)
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>\d\d)(?::(?P<seconds>\d\d))?")


def launcher_problems(launcher: LauncherConfig, trainer: TrainerConfig) -> Iterator[str]:
    """One line a problem."""
    if launcher.name != "slurm":
        return
    yield from _time_problems(launcher)
    if launcher.memory is not None and not re.fullmatch(r"\d+[KMGT]?", launcher.memory):
        yield f"launcher.memory={launcher.memory}: expected a number with its unit, e.g. 64G; valid units: K, M, G, T"
    tasks = launcher.tasks_per_node
    if tasks is not None and tasks not in (1, trainer.devices):
        yield f"launcher.tasks_per_node={tasks}: valid: 1, or trainer.devices={trainer.devices}, one for each device"
    if tasks == 1 and trainer.nodes > 1 and trainer.devices > 1:
        yield f"launcher.tasks_per_node=1: with trainer.nodes={trainer.nodes}, srun starts every rank; valid: {trainer.devices}"
    if trainer.accelerator == "gpu" and launcher.gpus_per_node is not None and launcher.gpus_per_node < trainer.devices:
        yield f"launcher.gpus_per_node={launcher.gpus_per_node}: trainer.accelerator=gpu needs trainer.devices={trainer.devices} of them"
    for key, value in vars(launcher).items():
        if isinstance(value, str) and not value.isprintable():
            yield f"launcher.{key}={value!r}: one line of text, without control characters"
    for name in launcher.environment:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            yield f"launcher.environment.{name}: no name of a variable"
        elif name in TRUST_VARIABLES:
            yield f"launcher.environment.{name}: trust is given on the command line alone: harness --trust FILE, --trust-remote-code MODEL"
    for key in ("sbatch_options", "srun_options"):
        for option in getattr(launcher, key):
            if not option.startswith("-") or "\n" in option:
                yield f"launcher.{key}={option!r}: expected an option, e.g. --exclude=node7"


def _time_problems(launcher: LauncherConfig) -> Iterator[str]:
    if launcher.time is None:
        return
    match = TIME.fullmatch(launcher.time)
    if match is None or (match["days"] is None and match["seconds"] is None):
        # YAML reads 4:00:00 without quotes as 14400, which Slurm would take for minutes.
        yield f'launcher.time={launcher.time}: expected "HH:MM:SS" or "D-HH:MM:SS", in quotes'
        return
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    limit = 60 * (60 * (24 * days + hours) + minutes) + seconds
    if limit <= launcher.signal_lead_seconds:
        yield (
            f"launcher.time={launcher.time}: not longer than launcher.signal_lead_seconds={launcher.signal_lead_seconds}, "
            "so that a job would be told to leave before it has begun"
        )
