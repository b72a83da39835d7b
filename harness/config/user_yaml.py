"""YAML as people write and read it."""

from __future__ import annotations

import re
from collections.abc import Hashable
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
    try:
        refuse_yaml_bombs(text.encode())
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except RecursionError:
        raise InputError(f"{path}: cannot be read as YAML: it is nested too deeply") from None
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
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


_TAG = "tag:yaml.org,2002:"
_PLAIN = (None, *(_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")))
"""Kinds of values that a configuration has; None stands for every other one, which is refused."""


class _Loader(yaml.CSafeLoader):
    """Reads as Hydra does, in a tenth of its time: 1e-4 is a number, dates are text, and a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {key.value}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# With a point, an exponent, or both: 08 is text, as in YAML.
_FLOAT = re.compile(r"[-+]?((\d[\d_]*\.[\d_]*|\.\d+)([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+)$")
_Loader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN] for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {tag: construct for tag, construct in _Loader.yaml_constructors.items() if tag in _PLAIN}


def head_comment(path: Path) -> str:
    """The comment that a configuration file begins with, in one line; "" where there is none."""
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(("# @package", "# yaml-language-server")):
            comment.append(line.lstrip("# ").rstrip())
    return " ".join(comment)


class _OneLine(yaml.SafeDumper):
    """Writes a line break in text as \\n."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_OneLine.add_representer(str, _OneLine.represent_text)


def in_one_line(value: Any) -> str:
    """A plain value as YAML, e.g. [0.9, 0.95]."""
    text: str = yaml.dump(value, Dumper=_OneLine, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n...\n").strip()
