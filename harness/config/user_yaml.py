"""YAML as people write and read it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from harness.config.documents import read_text, refuse_yaml_bombs
from harness.config.errors import InputError


def read_mapping(path: Path, *, holds: str) -> dict[str, Any]:
    """The mapping in a YAML file; `1e-4` is a number, as in Hydra's files, and no key stands twice.

    holds: what is expected in it, for the message. Raises InputError, also for an empty one.
    """
    content = as_mapping(path, user_text(path), holds=holds)
    if not content:
        raise InputError(f"{path}: expected a mapping with {holds}")
    return content


def as_mapping(path: Path, text: str, *, holds: str) -> dict[str, Any]:
    """The same of a file's text, which may be empty. Raises InputError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        refuse_yaml_bombs(text.encode())
        content = OmegaConf.to_container(OmegaConf.load(StringIO(text)))
    except RecursionError:
        raise InputError(f"{path}: cannot be read as YAML: it is nested too deeply") from None
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping with {holds}")
    return {str(key): value for key, value in content.items()}


def user_text(path: Path) -> str:
    """What stands in a file. Raises InputError."""
    try:
        return read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None


class _OneLine(yaml.SafeDumper):
    """Writes a line break in text as \\n."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_OneLine.add_representer(str, _OneLine.represent_text)


def in_one_line(value: Any) -> str:
    """A plain value as YAML, e.g. [0.9, 0.95]."""
    text: str = yaml.dump(value, Dumper=_OneLine, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n...\n").strip()
