"""Composition by Hydra: schema defaults, the YAML files of the chosen groups, overrides; and the origin of each value."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from harness.config.errors import InputError
from harness.config.introspect import fields_of
from harness.config.locations import LOCAL, config_dirs
from harness.config.nested import flat
from harness.config.overrides import COMMAND_LINE, GroupOverride, ValueOverride, parse, read_by_hydra, replaced_keys
from harness.config.trust import RECIPES, config_wishes, group_wishes, refuse
from harness.config.user_yaml import as_mapping, read_mapping, user_text
from harness.config.validate import plain


@dataclass(frozen=True)
class Composed:
    """Nested plain values, not validated yet, and where each came from."""

    values: dict[str, Any]
    origins: dict[str, str]
    """By dotted key: a file or `given_by`; absent for the schema's defaults."""
    groups: dict[str, str | None]
    """The choice made in each group of the defaults list."""
    given_by: str = COMMAND_LINE
    """What `origins` calls the overrides."""

    def origin(self, key: str) -> str | None:
        """Where the value at `key` was given; for a section, where one of its values was."""
        return self.origins.get(key) or next((place for name, place in self.origins.items() if name.startswith(f"{key}.")), None)


def compose(name: str, schema: type, overrides: list[str], *, given_by: str = COMMAND_LINE) -> Composed:
    """Compose the primary configuration `name` (conf/<name>.yaml) over the defaults of `schema`. Raises InputError.

    given_by: what messages call the place of the overrides.
    """
    from hydra import initialize_config_dir
    from hydra._internal.config_repository import CachingConfigRepository
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

    parsed = parse(overrides, schema, given_by=given_by)
    _refuse_foreign(name)
    _register_overlays()
    _register_schema(name, schema)
    try:
        with initialize_config_dir(str(config_dirs()[-1]), version_base="1.3"):
            # What hydra.compose does, step by step: it keeps its defaults list to itself, and to have it made twice takes as long again.
            loader: Any = GlobalHydra.instance().config_loader()
            for_hydra = [read_by_hydra(override.to_hydra()) for override in parsed]
            repository: Any = CachingConfigRepository(None)  # type: ignore[arg-type]  # it would copy the loader's, with all schemas
            repository.delegate = loader.repository
            loader._process_config_searchpath(name, for_hydra, repository)
            tree = _defaults_list(repository, name, for_hydra)
            _refuse_wishes_of_strangers(tree, given=replaced_keys(parsed))
            composed = loader._compose_config_from_defaults_list(tree.defaults, repository)
            composed.pop("hydra", None)
            OmegaConf.set_struct(composed, True)
            loader._apply_overrides_to_config(tree.config_overrides, composed)
            values: dict[str, Any] = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)  # type: ignore[assignment]
    except InterpolationResolutionError as error:
        raise InputError(_reference_problem(error, composed)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_in_one_line(error)) from None
    except yaml.YAMLError as error:
        raise InputError(f"a configuration file is not valid YAML: {' '.join(str(error).split())}") from None
    origins: dict[str, str] = {}
    # In OmegaConf a ??? of a file does not replace the schema's default: required keys are collected here.
    missing = {key for key, value in flat(values) if value == "???"}
    for item in tree.defaults:
        path = _file(item.config_path)
        if path is not None:
            package = "" if item.package in (None, "_global_") else item.package
            for key, value in flat(_body(path), f"{package}." if package else ""):
                if value != "???":
                    origins[key] = str(path)
                    missing.discard(key)
                elif key not in origins:
                    missing.add(key)
    given = {override.key: given_by for override in parsed if isinstance(override, ValueOverride)}
    missing -= {key for key in missing if any(key == name or key.startswith(f"{name}.") for name in given)}
    if missing:
        place = f"on {COMMAND_LINE}" if given_by == COMMAND_LINE else f"in {given_by}"
        raise InputError("\n".join(f"{key}: required, give it {place}: {key}=…" for key in sorted(missing)))
    origins.update(given)
    chosen = {override.group: override.choice for override in parsed if isinstance(override, GroupOverride)}
    known = {key: choice for key, choice in tree.overrides.known_choices.items() if not key.startswith("hydra/")}
    return Composed(values, origins, {**known, **chosen}, given_by)


def _defaults_list(repository: Any, name: str, overrides: Any) -> Any:
    """What is composed. Hydra's own groups, of which nothing is read, are made only where a user's file overrides one of them."""
    from hydra._internal.defaults_list import create_defaults_list
    from hydra.errors import ConfigCompositionException

    try:
        return create_defaults_list(repository, name, overrides, prepend_hydra=False, skip_missing=False)
    except ConfigCompositionException as error:
        if "Could not override 'hydra/" not in str(error):
            raise
    tree = create_defaults_list(repository, name, overrides, prepend_hydra=True, skip_missing=False)
    tree.defaults = [item for item in tree.defaults if not (item.config_path or "").startswith("hydra/")]
    return tree


@cache
def _register_schema(name: str, schema: type) -> None:
    """Let Hydra find the defaults as a file of that name. Once a process."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=f"{name}_schema", node=defaults(schema))


@cache
def _register_overlays() -> None:
    """Put the directories of configuration before what Hydra takes for it, so that all are read in our way. Once a process."""
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    from harness.config.user_source import UserSource

    class Overlays(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for path in reversed(config_dirs()):
                search_path.prepend("overlay", f"{UserSource.scheme()}://{path}")

    SourcesRegistry.instance().register(UserSource)
    Plugins.instance().register(Overlays)


def defaults(schema: type) -> dict[str, Any]:
    """The schema's defaults as nested plain values; required fields are left out."""
    result: dict[str, Any] = {}
    for name, item in fields_of(schema).items():
        if item.section:
            result[name] = defaults(item.section)
        elif item.default is not dataclasses.MISSING:
            result[name] = plain(item.default)
    return result


def _file(config_path: str) -> Path | None:
    """The YAML file behind an entry of the defaults list; None for the schema itself."""
    return next((path for base in config_dirs() if (path := base / f"{config_path}.yaml").is_file()), None)


def _refuse_wishes_of_strangers(tree: Any, *, given: Collection[str]) -> None:
    """Refuse a recipe that says where things go or what runs, and what it brings along. tree: Hydra's defaults list, flat.

    A file that only a recipe asks for is the user's if it is a choice of a group of ours.
    """
    parents = {item.config_path: item.parent for item in tree.defaults}
    groups = {path.name for path in config_dirs()[-1].iterdir() if path.is_dir()} | {LOCAL}

    def is_strangers(config_path: str | None) -> bool:
        if config_path is None or config_path not in parents:
            return False
        place = Path(os.path.normpath(config_path))
        return place.is_relative_to(RECIPES) or (place.parts[0] not in groups and is_strangers(parents[config_path]))

    choices: dict[str, list[str]] = {}
    for group, choice in tree.overrides.override_choices.items():
        chooser = tree.overrides.override_metadata[group].containing_config_path
        if is_strangers(chooser):
            choices.setdefault(chooser, []).extend(group_wishes(group, choice))
    for item in tree.defaults:
        group, _, choice = (item.config_path or "").rpartition("/")
        if is_strangers(item.parent):
            choices.setdefault(item.parent, []).extend(group_wishes(group, choice))
    for item in tree.defaults:
        path = _file(item.config_path) if is_strangers(item.config_path) else None
        if path is not None:
            document = read_mapping(path, holds="an experiment")
            package = f"{item.package}." if item.package and item.package != "_global_" else ""
            wishes = config_wishes(flat(document, package), path, given=given)
            refuse(path, [*wishes, *choices.get(item.config_path, [])], "a recipe")


def _refuse_foreign(name: str) -> None:
    """Refuse a primary file of another program that uses Hydra, too: found first, it would take the place of the harness's own."""
    path = _file(name)
    if path is None or path.parent == config_dirs()[-1]:
        return
    body = as_mapping(path, user_text(path), holds="a defaults list")
    if f"{name}_schema" not in (body.get("defaults") or []):
        own = config_dirs()[-1] / path.name
        raise InputError(
            f"{path}: takes the place of the harness's own {path.name}, and is no such file (its defaults lack {name}_schema). If it is "
            f"another program's, work in a directory without it; if it is meant to be the harness's, begin with a copy of {own}"
        )


def _body(path: Path) -> dict[str, Any]:
    document = yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader) or {}
    return {key: value for key, value in document.items() if key != "defaults"}


def _reference_problem(error: Any, composed: Any) -> str:
    """What a value refers to is not there. error: OmegaConf's, whose full_key names the value."""
    from omegaconf import OmegaConf

    value = str(dict(flat(OmegaConf.to_container(composed, resolve=False))).get(error.full_key))  # type: ignore[arg-type]
    literal = value.replace("${", r"\${")
    return f"{error.full_key}={value}: {_in_one_line(error)}; where no reference is meant, valid: {literal}"


def _in_one_line(error: Exception) -> str:
    """Hydra's message without causes, search path and OmegaConf's notes on types."""
    lines = [line.strip() for line in str(error).split("Config search path:")[0].splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("full_key:", "object_type=", "reference_type="))) or repr(error)
