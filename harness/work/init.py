"""Copies of what the harness ships, to be changed: sweeps, experiments, launchers, recipes for synthetic data; with a JSON Schema beside
them for the editor."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Literal

from harness.config.errors import InputError, unknown, wrong_value
from harness.config.introspect import describe, fields_of
from harness.config.json_schema import file_schema
from harness.config.launcher_schema import LauncherConfig
from harness.config.locations import choices, config_dirs, overlay_dir, sweep_dirs, sweep_names, synth_dirs, synth_names
from harness.config.user_yaml import in_one_line, read_mapping
from harness.config.writable import check_writable
from harness.runs.files import write_text
from harness.synthesis.recipe import template_files

WIDTH = 120
Kind = Literal["sweep", "experiment", "launcher", "synth"]


def init(kind: Kind, name: str | None, new_name: str | None = None) -> Path:
    """Copy a file into the working directory's sweeps/, conf/ or synth/, under another name if one is given; returns where it is. Of a
    recipe for synthetic data the templates beside it come along, unless there are such already.

    Raises InputError without a name, for one that does not exist, and where the copy's place is taken; nothing is written then.
    """
    source = _source(kind, name)
    if new_name is not None and not re.fullmatch(r"\w[\w.-]*", new_name):
        raise wrong_value("NEW_NAME", new_name, "expected a plain name, e.g. my_sweep")
    folder = Path({"sweep": "sweeps", "synth": "synth"}.get(kind) or overlay_dir() / kind)
    target = folder / f"{new_name or source.stem}.yaml"
    if target.exists():
        raise InputError(f"{target}: exists; give the copy another name: harness init {kind} {name} NEW_NAME")
    templates = template_files(source) if kind == "synth" else {}
    check_writable(folder, f"place of {kind} files")
    schema = folder / f".{kind}.schema.json"
    write_text(schema, json.dumps(file_schema(kind), indent=1, allow_nan=False) + "\n")
    for word, text in templates.items():
        if not (folder / word).exists():
            write_text(folder / word, text)
    write_text(target, _copy(kind, source, schema.name))
    return target


def _source(kind: Kind, name: str | None) -> Path:
    match kind:
        case "sweep":
            names, bases = sweep_names(), sweep_dirs()
        case "synth":
            names, bases = synth_names(), synth_dirs()
        case _:
            names, bases = choices(kind), [base / kind for base in config_dirs()]
    what = "recipe" if kind == "synth" else kind
    if name is None:
        raise InputError(f"NAME: required, the {what} to copy. Valid: {', '.join(sorted(names))}.")
    if name not in names:
        raise unknown(what, name, names)
    return next(path for base in bases if (path := base / f"{name}.yaml").is_file())


def _copy(kind: Kind, source: Path, schema: str) -> str:
    """The file's text, behind its `# @package` a line that tells editors its schema; a launcher's other keys follow as comments."""
    lines = source.read_text(encoding="utf-8").splitlines()
    at = 1 if lines and lines[0].startswith("# @package") else 0
    lines.insert(at, f"# yaml-language-server: $schema=./{schema}")
    if kind == "launcher":
        given = read_mapping(source, holds="keys of a launcher")
        lines += ["", "# What else can be set:"]
        for name, item in fields_of(LauncherConfig).items():
            # Which kind of launcher it is, what it begins with says.
            if name not in given and name != "name":
                lines += textwrap.wrap(f"{item.doc} ({describe(item.annotation)})", WIDTH, initial_indent="# ", subsequent_indent="# ")
                lines.append(f"# {name}: {in_one_line(item.default)}")
    return "\n".join(lines) + "\n"
