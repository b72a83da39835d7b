"""From overrides or a config.yaml to a validated `Config`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.checks import check
from harness.config.compose import Composed, compose
from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.nested import flat, set_value
from harness.config.overrides import COMMAND_LINE, GroupOverride, ValueOverride, parse, replaced_keys
from harness.config.private import with_paths
from harness.config.schema import Config
from harness.config.trust import config_wishes, is_own, is_trusted_file, refuse
from harness.config.user_yaml import read_mapping
from harness.config.validate import plain, refuse_unread, to_section


@dataclass(frozen=True)
class Loaded:
    """A validated configuration, and where its values came from."""

    config: Config
    composed: Composed

    def with_values(self, values: dict[str, Any]) -> Loaded:
        """The same with other values by dotted key (a trial's parameters), validated again. Raises InputError."""
        composed = Composed(plain(self.composed.values), dict(self.composed.origins), self.composed.groups, self.composed.given_by)
        for key, value in values.items():
            set_value(composed.values, key, value)
            composed.origins[key] = "the space"
        return _validated(composed)


def load(
    overrides: list[str],
    values: dict[str, Any] | None = None,
    *,
    checked_by: Callable[[Config], None] = check,
    given_by: str = COMMAND_LINE,
) -> Loaded:
    """Compose conf/config.yaml with Hydra overrides, then `values` by dotted key (a trial's parameters), and validate.

    checked_by: what several keys must agree on; `check_input` where only the data matters. given_by: what messages call the place of the
    overrides.
    Raises InputError naming key, value and what would be valid.
    """
    loaded = _validated(compose("config", Config, overrides, given_by=given_by), checked_by)
    return loaded.with_values(values) if values else loaded


def _validated(composed: Composed, checked_by: Callable[[Config], None] = check) -> Loaded:
    config = to_section(Config, _in_home(composed.values), origin=composed.origin)
    refuse_unread(config, sorted(key for key, origin in composed.origins.items() if origin == composed.given_by))
    checked_by(config)
    return Loaded(config, composed)


def _in_home(values: dict[str, Any]) -> dict[str, Any]:
    """The values with ~ written out in every path: no shell does that inside YAML or quotes, and none of their readers has to."""
    return with_paths(values, lambda key, path: str(in_home(path)) if path.startswith("~") else path)


def load_file(
    path: Path, overrides: list[str] | None = None, *, checked_by: Callable[[Config], None] = check, given_by: str = COMMAND_LINE
) -> Config:
    """Read a resolved config.yaml (as every run directory holds one), apply value overrides, and validate.

    checked_by: what several keys must agree on; `check_model` where data are not needed.
    """
    values = read_mapping(path, holds="configuration keys, as in a run's config.yaml")
    return with_overrides(values, overrides or [], origin=str(path), checked_by=checked_by, given_by=given_by)


def load_given_file(path: Path, overrides: list[str] | None = None, *, given_by: str = COMMAND_LINE) -> Config:
    """The same of a file that the user names, which may be a stranger's: then it does not say where things go or what runs."""
    from harness.runs.directory import RunDirectory
    from harness.runs.run_config import as_of_run

    values = read_mapping(path, holds="configuration keys, as in a run's config.yaml")
    if "space" in values:
        raise InputError(f"{path}: a sweep file, and no configuration; valid: harness sweep {path}")
    if "defaults" in values:
        raise InputError(f"{path}: an experiment, and no resolved configuration; valid: in conf/experiment, experiment={path.stem}")
    if not is_own(path):
        given = replaced_keys(parse(overrides or [], Config, given_by=given_by))
        refuse(path, config_wishes(flat(values), path, given=given, what="a configuration"), "a configuration")
    with as_of_run(RunDirectory(path.parent), values, moved=is_own(path) or is_trusted_file(path)) as values:
        return with_overrides(values, overrides or [], origin=str(path), given_by=given_by)


def with_overrides(
    values: dict[str, Any],
    overrides: list[str],
    *,
    origin: str,
    checked_by: Callable[[Config], None] = check,
    given_by: str = COMMAND_LINE,
) -> Config:
    """A resolved configuration's plain values with value overrides, validated. origin, given_by: where values and overrides were given."""
    values = copy.deepcopy(values)
    given = set()
    for override in parse(overrides, Config, given_by=given_by):
        if not isinstance(override, ValueOverride):
            valid = f"; valid: {override.group}.KEY=VALUE" if isinstance(override, GroupOverride) else ""
            raise InputError(f"{override.to_hydra()}: with a resolved config only values can be overridden{valid}")
        set_value(values, override.key, override.value)
        given.add(override.key)
    config = to_section(Config, _in_home(values), origin=lambda key: given_by if key in given else origin)
    checked_by(config)
    return config
