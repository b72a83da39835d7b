"""Shell completion of overrides, studies, sweeps and runs, from the schema and directory listings alone: it must be fast."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import typer

from harness.config.introspect import Field, alternatives, find, keys
from harness.config.launcher_schema import LaunchConfig
from harness.config.locations import choices, groups, in_home, sweep_names, synth_names
from harness.config.overrides import key_of
from harness.config.schema import Config
from harness.config.sweep_schema import SweepConfig
from harness.config.synth_schema import SynthConfig
from harness.runs.bundle import bundles
from harness.runs.directory import StudyDirectory, is_run, is_study, is_synth, runs_root

SWEEP_SECTIONS = ("search", "stopping", "budget", "launcher")
"""Sections of a sweep that `harness sweep` takes overrides for."""
NAME = "NAME"
"""Placeholder for the name of a source or validation set."""


def overrides(incomplete: str) -> list[str]:
    """Completions of KEY=VALUE and GROUP=CHOICE for a run; keys stop at the next dot, as paths do at the next slash."""
    return [*_completed(incomplete, Config, [group for group in groups() if group not in SWEEP_SECTIONS]), *launcher_overrides(incomplete)]


def sweep_overrides(incomplete: str) -> list[str]:
    """The same for a sweep: also search, stopping, budget and launcher."""
    own = [name for name in _completed(incomplete, SweepConfig, groups()) if key_of(name).split(".")[0] in SWEEP_SECTIONS]
    return [*overrides(incomplete), *own, *_of_the_space(incomplete)]


def _of_the_space(incomplete: str) -> list[str]:
    """Parts of parameters: space.optim.lr.low=, up to the next dot."""
    from harness.search.space import PARAMETER_KEYS

    word, done = _under_cursor(incomplete)
    names = [_named(f"space.{name}.{part}=", word) for name, _ in keys(Config) for part in PARAMETER_KEYS]
    found = dict.fromkeys(_up_to_next_dot(name, len(word)) for name in names if name.startswith(word))
    return [name.removeprefix(done) for name in found]


def study_overrides(incomplete: str) -> list[str]:
    """What may change of a study that was launched: budget and launcher."""
    return [name for name in _completed(incomplete, SweepConfig, ["launcher"]) if key_of(name).split(".")[0] in ("budget", "launcher")]


def launcher_overrides(incomplete: str) -> list[str]:
    """The launcher alone: of a single run that is resumed, of workers that are added."""
    return _completed(incomplete, LaunchConfig, ["launcher"])


def synth_overrides(incomplete: str) -> list[str]:
    """Keys of a recipe for synthetic data."""
    return _completed(incomplete, SynthConfig, [])


def _completed(incomplete: str, schema: type, known_groups: list[str]) -> list[str]:
    word, done = _under_cursor(incomplete)
    prefix = word[: len(word) - len(word.lstrip("+~"))]
    found = list(dict.fromkeys(_candidates(word.removeprefix(prefix), schema, known_groups)))
    if len(found) == 1 and found[0].endswith(("=", ".")):
        # After a single candidate a shell ends the word with a space: offer what follows, too.
        following = [name for name in _candidates(found[0], schema, known_groups) if name != found[0]]
        found = following if len(following) > 1 else [*found, *following]
    whole = [prefix + name for name in found]
    return [name.removeprefix(done) for name in whole if name.startswith(word)]


def _under_cursor(incomplete: str) -> tuple[str, str]:
    """The word being typed, and its prefix that completions must leave out.

    To bash `schedule=w` is three words, `schedule`, `=` and `w`, and a completion replaces the last one. Other shells pass it whole.
    """
    if os.environ.get("_HARNESS_COMPLETE") != "complete_bash":
        return incomplete, ""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    at = int(os.environ.get("COMP_CWORD", "0"))
    if not 0 < at < len(words) or not words[at]:
        return incomplete, ""
    word = words[at]
    while at > 1 and (word.startswith(("=", ":")) or words[at - 1] in ("=", ":")):
        at -= 1
        word = words[at] + word
    return word, word[: max(word.rfind("="), word.rfind(":")) + 1]


def _candidates(word: str, schema: type, known_groups: list[str]) -> Iterator[str]:
    key, equals, value = word.partition("=")
    if equals:
        yield from (f"{key}={choice}" for choice in _values(key, value, schema, known_groups) if choice.startswith(value))
        return
    # The folders of a group are part of its choices: experiment=best/winner.
    names = [f"{group}=" for group in known_groups if "/" not in group]
    names += [_named(f"{name}=", word) for name, _ in keys(schema)]
    yield from (_up_to_next_dot(name, len(word)) for name in names if name.startswith(word))


def _named(name: str, word: str) -> str:
    """A key with <name> replaced by the name typed so far, or by NAME."""
    above, entry, below = name.partition("<name>")
    if not entry:
        return name
    typed, dot, _ = word.removeprefix(above).partition(".") if word.startswith(above) else ("", "", "")
    return f"{above}{typed if dot else NAME}{below}"


def _up_to_next_dot(name: str, start: int) -> str:
    if f".{NAME}." in name and name.find(f".{NAME}.") == start - 1:
        return name
    dot = name.find(".", start)
    return name[: dot + 1] if dot >= 0 else name


def _values(key: str, value: str, schema: type, known_groups: list[str]) -> Iterable[str]:
    if key in known_groups:
        return choices(key)
    item = find(schema, key)
    if item is None:
        return []
    if key.endswith((".path", "_dir")):
        return _paths(value)
    return _choices_of(item) or _default_of(item)


def _choices_of(item: Field) -> list[str]:
    parts = alternatives(item.annotation)
    literals = [str(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    flags = ["true", "false"] if bool in parts else []
    return [*literals, *flags, *(["null"] if (literals or flags) and type(None) in parts else [])]


def _default_of(item: Field) -> list[str]:
    """The default, for numbers and text, which have no list of values."""
    default = item.default
    if default is None:
        return ["null"]
    return [str(default)] if isinstance(default, int | float | str) else []


def _paths(value: str) -> list[str]:
    """Files below the directory typed; none in bash, which completes file names better by itself."""
    if os.environ.get("_HARNESS_COMPLETE") == "complete_bash":
        return []
    typed, slash, _ = value.rpartition("/")
    directory = in_home(typed + slash)
    if not directory.is_dir():
        return []
    entries = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return [f"{typed}{slash}{path.name}{'/' if path.is_dir() else ''}" for path in entries]


def sweeps(incomplete: str) -> list[str]:
    """Names of sweep files, and of studies that may go on."""
    return list(dict.fromkeys([*(name for name in sweep_names() if name.startswith(incomplete)), *studies(incomplete)]))


def synth_recipes(incomplete: str) -> list[str]:
    """Names of recipes for synthetic data."""
    return [name for name in synth_names() if name.startswith(incomplete)]


def sections(incomplete: str) -> list[str]:
    """What `harness ls` lists."""
    from harness.work.listing import SECTIONS

    return [name for name in SECTIONS if name.startswith(incomplete)]


def templates(context: typer.Context, incomplete: str) -> list[str]:
    """What `harness init` copies, as the word before says."""
    kind = context.params.get("kind")
    if kind in ("experiment", "launcher"):
        names = choices(kind)
    else:
        names = sweep_names() if kind == "sweep" else synth_names() if kind == "synth" else []
    return [name for name in names if name.startswith(incomplete)]


def studies(incomplete: str) -> list[str]:
    """Names of studies under the runs root."""
    return _below_runs_root(incomplete, is_study)


def studies_and_data(incomplete: str) -> list[str]:
    """Names of studies, and of data sets that are made, under the runs root."""
    return _below_runs_root(incomplete, lambda path: is_study(path) or is_synth(path))


def runs(incomplete: str) -> list[str]:
    """Names of single runs and studies under the runs root; behind STUDY/, the numbers of its trials."""
    study, slash, number = incomplete.rpartition("/")
    if slash and is_study(runs_root() / study):
        trials = (str(int(run.path.name)) for run in StudyDirectory(runs_root() / study).trials())
        return [f"{study}/{trial}" for trial in trials if trial.startswith(number)]
    return _below_runs_root(incomplete, lambda path: is_run(path) or is_study(path))


def recipes(incomplete: str) -> list[str]:
    """Names of recipes, and of runs."""
    return [name for name, _ in bundles() if name.startswith(incomplete)] + _below_runs_root(incomplete, is_run)


def _below_runs_root(incomplete: str, wanted: Callable[[Path], bool]) -> list[str]:
    root = runs_root()
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name.startswith(incomplete) and wanted(path))
