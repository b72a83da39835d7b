"""Where configuration is looked for: the working directory's own conf/, sweeps/, synth/ and slurm/ overlay those that ship."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness.config.errors import InputError

CONFIG_DIR_VARIABLE = "HARNESS_CONFIG_DIR"
BUNDLE_FILE = "bundle.json"
"""Marks the directory of a bundle, whose YAML files are no choices of a group (see `harness.runs.bundle`)."""
LOCAL = "local"
"""conf/local/: what belongs to a user and a cluster (account, partition, paths), and to no repository."""


def in_home(path: str | Path) -> Path:
    """A path with ~ written out, which no shell does inside YAML, quotes or --option=; pathlib's own raises for a user who is none."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def shipped(folder: str) -> Path:
    """conf/, sweeps/, synth/ or slurm/ as they ship: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).absolute().parent.parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


def config_dirs() -> list[Path]:
    """Directories of configuration, the first one wins: --config-dir, ./conf/local, ./conf, the harness's own."""
    extra = os.environ.get(CONFIG_DIR_VARIABLE)
    if extra and not in_home(extra).is_dir():
        raise InputError(f"--config-dir={extra}: no such directory")
    candidates = [in_home(extra)] if extra else []
    candidates += [Path("conf") / LOCAL, Path("conf"), shipped("conf")]
    return _distinct(path for path in candidates if path.is_dir())


def sweep_dirs() -> list[Path]:
    """Directories of sweep files, the first one wins."""
    return _distinct(path for path in (Path("sweeps"), shipped("sweeps")) if path.is_dir())


def synth_dirs() -> list[Path]:
    """Directories of recipes for synthetic data, the first one wins."""
    return _distinct(path for path in (Path("synth"), shipped("synth")) if path.is_dir())


def batch_template(name: str) -> Path:
    """The template of a batch script: ./slurm/NAME, else the harness's own."""
    own = Path("slurm") / name
    return own.resolve() if own.is_file() else shipped("slurm") / name


def overlay_dir() -> Path:
    """Where exported winners go: --config-dir, else the working directory's conf/ (made when first needed)."""
    return in_home(os.environ.get(CONFIG_DIR_VARIABLE) or "conf")


def _distinct(paths: Iterator[Path]) -> list[Path]:
    return list(dict.fromkeys(path.resolve() for path in paths))


def groups() -> list[str]:
    """The configuration groups (schedule, experiment, experiment/best, …)."""
    found = {
        path.relative_to(base).as_posix()
        for base in config_dirs()
        for path in base.rglob("*")
        if path.is_dir() and any(map(Path.is_file, path.glob("*.yaml"))) and not _in_bundle(path)
    }
    # conf/local is a directory of groups itself; its best/ is no group, but what of exported winners is their owner's alone.
    return sorted(group for group in found if group.split("/")[0] not in (LOCAL, "best"))


def choices(group: str) -> list[str]:
    """The choices of a group: the names of its YAML files, those of sub-folders as folder/name."""
    found = {
        path.relative_to(base / group).with_suffix("").as_posix()
        for base in config_dirs()
        for path in (base / group).rglob("*.yaml")
        if path.is_file() and not _in_bundle(path.parent)
    }
    return sorted(found)


def _in_bundle(directory: Path) -> bool:
    return (directory / BUNDLE_FILE).exists()


def sweep_names() -> list[str]:
    return _names(sweep_dirs())


def synth_names() -> list[str]:
    return _names(synth_dirs())


def _names(folders: list[Path]) -> list[str]:
    return sorted({path.stem for base in folders for path in base.glob("*.yaml") if path.is_file()})
