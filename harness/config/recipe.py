"""The configuration of a recipe, which may come from a stranger: plain values, and paths inside the working directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.load import with_overrides
from harness.config.nested import flat, set_value
from harness.config.private import is_owner_specific
from harness.config.schema import Config
from harness.config.trust import config_wishes, refuse
from harness.config.user_yaml import read_mapping


def recipe_values(path: Path, *, template: Path) -> dict[str, Any]:
    """The values of a bundle's config.yaml.

    What is its reader's own to choose (tracking, caches, threads) is not taken over. template: the bundle's own chat template, which takes
    the place of whatever file the configuration names. Raises InputError for paths that leave the working directory, and interpolations.
    """
    return safe_values(read_mapping(path, holds="the resolved configuration of a recipe"), path, template=template)


def safe_values(given: Mapping[str, Any], path: Path, *, template: Path) -> dict[str, Any]:
    """The same of values that stand in the file `path`, which may be a stranger's."""
    values: dict[str, Any] = {}
    wishes: list[str] = []
    for key, value in flat(given):
        if is_owner_specific(key):
            continue
        if key == "data.chat_template" and isinstance(value, str) and value.endswith(".jinja"):
            if template.is_symlink() or not template.is_file():
                raise InputError(f"{path}: data.chat_template={value}: the bundle has no {template.name}")
            value = str(template)
        else:
            wishes += config_wishes([(key, value)], path)
        set_value(values, key, value)
    refuse(path, wishes, "a recipe")
    return values


def load_recipe(values: dict[str, Any], overrides: list[str], *, origin: str, to_give: Mapping[str, str]) -> Config:
    """The validated configuration with the reader's overrides. Raises InputError, which names what is still to be given."""
    try:
        return with_overrides(values, overrides, origin=origin)
    except InputError as error:
        given = [override.lstrip("+").partition("=")[0] for override in overrides]
        absent = [f"  {key}=…  ({name})" for key, name in to_give.items() if key not in given]
        if absent:
            raise InputError("\n".join([str(error), "the recipe was made where these lie elsewhere; give them:", *absent])) from None
        raise
