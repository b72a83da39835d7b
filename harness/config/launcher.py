"""The launcher of a single run, from its part of a command line."""

from __future__ import annotations

from harness.config.compose import compose
from harness.config.errors import InputError
from harness.config.launcher_schema import LaunchConfig, LauncherConfig
from harness.config.overrides import ValueOverride, key_of, parse
from harness.config.validate import refuse_unread, to_section


def split_launcher(overrides: list[str]) -> tuple[list[str], list[str]]:
    """The overrides that are about the launcher, and all others."""
    own = [text for text in overrides if key_of(text).split(".")[0] == "launcher"]
    return own, [text for text in overrides if text not in own]


def load_launcher(overrides: list[str]) -> LauncherConfig:
    """The launcher that overrides choose (`launcher=slurm launcher.time=04:00:00`); local without any. Raises InputError."""
    if not overrides:
        return LauncherConfig()
    composed = compose("launch", LaunchConfig, overrides)
    config = to_section(LaunchConfig, composed.values, origin=composed.origin)
    refuse_unread(config, [override.key for override in parse(overrides, LaunchConfig) if isinstance(override, ValueOverride)])
    return config.launcher


def launcher_alone(overrides: list[str]) -> LauncherConfig:
    """The launcher, where nothing else can be overridden. Raises InputError."""
    own, others = split_launcher(overrides)
    if others:
        raise InputError(f"{others[0]!r}: only the launcher can be chosen here, e.g. launcher=slurm launcher.time=04:00:00")
    return load_launcher(own)
