"""Whose a file is, and what it may say: the one rule for recipes, bundles, sweep files and resolved configurations.

What a run IS may be said by anybody's file: model shape, data shares, objective, adapter, optimizer, schedule, lengths. Where things go and
what runs (tracking, launcher, storage, caches, paths elsewhere, interpolations) is said by the command line and by the user's own files.
These are known by their place: what ships, ./conf, ./sweeps, ./synth, --config-dir, runs, and files in the working directory itself.
All others, and recipes and bundles wherever they lie, may be a stranger's, unless the user trusts them by name (`harness --trust FILE`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.introspect import find
from harness.config.locations import BUNDLE_FILE, config_dirs, in_home, sweep_dirs, synth_dirs
from harness.config.merge_words import KEY, prefix_of
from harness.config.nested import flat
from harness.config.overrides import GroupOverride, ValueOverride, parse
from harness.config.private import PATH_KEY, is_owner_specific
from harness.config.schema import Config

FILES_VARIABLE = "HARNESS_TRUST"
"""Set by --trust, inherited by workers and jobs: files and directories, separated as in $PATH."""
RECIPES = Path("experiment") / "best"
HARMLESS_KEYS = ("tracking.name", "trainer.threads")
"""Whether rows are tracked at all; where they go is the user's."""
HARMLESS_VALUES = {"tracking.mode": ("offline",), "tracking.system_metrics": (False,), "tracking.metadata": (False,)}
"""Nothing leaves the machine."""
HARMLESS_TRACKING = (None, "none", "wandb")
"""Choices of the group that name no place."""
PROFILE_KEYS = ("name", "workers")
"""What anybody's sweep file may say of the launcher: which of the user's own profiles, and how many trials at a time."""
SYNTH_PATH = re.compile(
    r"(seeds\.[^.]+\.path|teachers\.[^.]+\.model|steps\.[^.]+\.schema_path|filters\.schema_path|decontaminate\.against)"
)
"""Keys of a recipe for synthetic data that name files."""
SYNTH_ASKED = re.compile(r"teachers\.[^.]+\.(endpoint|key_env|overrides|extra_body)(\..+)?")
"""Keys of it that say whom to ask and what else to have done there: by extra_body, some servers call tools at addresses of its choice."""
SYNTH_KEY = re.compile(r"data\.sources\.[^.]+\.synth\.(.+)")
"""Such keys of a source whose data are made."""
MADE_BY_NAME = re.compile(r"synth:[\w-]+")
"""A recipe that ships, or of the user's own."""
HUB_BLOBS = re.compile(r"/(models|datasets|spaces)--[^/]+/blobs$")
CHAT_TEMPLATES = "additional_chat_templates"
"""The only directory in a model's that transformers reads."""
WEIGHTS = (".safetensors", ".bin")
SHOWN = 5
SHOWN_CHARACTERS = 80


def trust_files(words: Iterable[str]) -> None:
    """Let these files, what lies in these directories, and these recipes (best/NAME) say everything, in this process and in its children.

    Raises InputError for what is not there.
    """
    os.environ[FILES_VARIABLE] = os.pathsep.join(str(_trustable(word)) for word in words)


def _trustable(word: str) -> Path:
    path = in_home(word)
    recipes = (base / "experiment" / f"{word.removeprefix('experiment=')}.yaml" for base in config_dirs())
    found = path if path.exists() else next((recipe for recipe in recipes if recipe.is_file()), None)
    if found is None:
        raise InputError(f"--trust={word}: no such file, directory or recipe (best/NAME)")
    return _place(found)


def is_trusted_file(path: Path) -> bool:
    """Whether the user trusts this file, or a directory that it lies in, by name."""
    given = [Path(word) for word in os.environ.get(FILES_VARIABLE, "").split(os.pathsep) if word]
    place = _place(path)
    return any(place.is_relative_to(trusted) for trusted in given)


def is_own(path: Path) -> bool:
    """Whether a file is the user's, by its place."""
    from harness.runs.directory import runs_root

    place, confs = _place(path), config_dirs()
    if any((parent / BUNDLE_FILE).exists() for parent in place.parents) or any(place.is_relative_to(base / RECIPES) for base in confs):
        return False
    if place.name == "config.yaml" and (place.parent / "result.json").is_file() and place.is_relative_to(Path.cwd()):
        return True  # of a run with a directory of its own (--dir), which `harness resume` would go on with as well
    return place.parent == Path.cwd() or any(
        place.is_relative_to(base) for base in (*confs, *sweep_dirs(), *synth_dirs(), runs_root().resolve())
    )


def _place(path: Path) -> Path:
    """Where a file lies; a link lies where it is, whatever it points to."""
    plain = Path(os.path.normpath(path.absolute()))
    return plain.parent.resolve() / plain.name


def refuse(path: Path, wishes: Iterable[str], what: str) -> None:
    """Raise InputError if a file that may be a stranger's has wishes, and is not trusted by name. what: it is, e.g. "a recipe"."""
    found = list(wishes)
    if not found or is_trusted_file(path):
        return
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise InputError(
        f"{path}: {what} that may be a stranger's says where things go or what runs, and that is for you to say: "
        f"{'; '.join(found[:SHOWN])}{more}. Give it on the command line instead; or, if you trust all that the file says: "
        f"harness --trust {path} …"
    )


def config_wishes(leaves: Iterable[tuple[str, Any]], path: Path, *, given: Collection[str] = (), what: str = "a recipe") -> Iterator[str]:
    """What the configuration in the file `path` wants beyond what a run is, in words.

    leaves: its dotted keys with their values as they were parsed. given: keys whose value is replaced by the command line's.
    """
    for key, value in leaves:
        if key in given or value in HARMLESS_VALUES.get(key, ()):
            continue
        if any("${" in text for text in (key, *_texts(value))):
            yield f"{_shown(key, value)} ({what} holds values, no interpolations)"
        elif (made := SYNTH_KEY.fullmatch(key)) is not None:
            if _is_synth_wish(made[1], value, path):
                yield _shown(key, value)
        elif key.split(".")[0] == "hydra" or (is_owner_specific(key) and key not in HARMLESS_KEYS and not _is_default(key, value)):
            yield _shown(key, value)
        elif (PATH_KEY.fullmatch(key) or key.startswith("trainer.callbacks.")) and any(
            lies_outside(text, path) for text in _paths(key, value)
        ):
            yield f"{_shown(key, value)} (outside of the working directory)"


def sweep_wishes(document: Mapping[str, Any], path: Path, *, given: Collection[str] = ()) -> Iterator[str]:
    """The same of a sweep file. Raises InputError for overrides in its base that are none."""
    launcher = document.get("launcher")
    for key, value in launcher.items() if isinstance(launcher, Mapping) else ():
        if key not in PROFILE_KEYS and f"launcher.{key}" not in given:
            yield _shown(f"launcher.{key}", value)
    if document.get("storage") is not None and "storage" not in given:
        yield _shown("storage", document["storage"])
    base = parse([text for text in document.get("base") or [] if "${" not in text], Config)
    for override in base:
        if isinstance(override, ValueOverride):
            nested = isinstance(override.value, dict)
            leaves = flat(override.value, f"{override.key}.") if nested else [(override.key, override.value)]
            yield from config_wishes(leaves, path, given=given, what="a sweep file")
        elif isinstance(override, GroupOverride):
            yield from group_wishes(override.group, override.choice)
    space = document.get("space")
    for key, domain in space.items() if isinstance(space, Mapping) else ():
        choices = domain.get("choices") if isinstance(domain, Mapping) else None
        for choice in choices if isinstance(choices, list) else [domain]:
            yield from group_wishes(str(key), choice)
            nested = choice is not domain and isinstance(choice, Mapping)
            below = flat(choice, f"{key}.") if nested else [(str(key), choice)]
            yield from config_wishes(below, path, what="a sweep file")
    yield from (f"{_shown(key, value)} (a sweep file holds values, no interpolations)" for key, value in _interpolations(document))
    yield from (_shown(key, entry) for key, entry in _studies(document) if lies_outside(entry.partition(":")[2] or entry, path))


def synth_wishes(document: Mapping[str, Any], path: Path, *, given: Collection[str] = ()) -> Iterator[str]:
    """The same of a recipe for synthetic data: which files it reads, whom it asks, and how the models that it loads are set up."""
    for key, value in flat(document):
        if key in given:
            continue
        if any("${" in text for text in (key, *_texts(value))):
            yield f"{_shown(key, value)} (a recipe for synthetic data holds values, no interpolations)"
        elif _is_synth_wish(key, value, path):
            yield _shown(key, value)


def _is_synth_wish(key: str, value: Any, path: Path) -> bool:
    """Whether a key of such a recipe says whom to ask, how a model is set up, or names what lies outside of the working directory."""
    if SYNTH_ASKED.fullmatch(key):
        return bool(value)
    return SYNTH_PATH.fullmatch(key) is not None and any(lies_outside(text, path) for text in _texts(value))


def group_wishes(group: str, choice: Any) -> Iterator[str]:
    """What the choice of a group wants beyond what a run is."""
    if group.split("@")[0] == "tracking" and choice not in HARMLESS_TRACKING:
        yield _shown("tracking", choice)


def lies_outside(value: str, path: Path) -> bool:
    """Whether a path that the file `path` names leads out of the working directory and out of the file's own."""
    slashes = value.replace("\\", "/")
    if MADE_BY_NAME.fullmatch(slashes):
        return False
    if re.match(r"\w+:", slashes):
        return not slashes.startswith("hf://")
    named = Path(os.path.normpath(in_home(slashes).absolute()))
    own, working = path.parent.resolve(), Path.cwd()
    if own != working and (named.is_relative_to(own) or named.resolve().is_relative_to(own)):
        return not named.resolve().is_relative_to(own)  # a link that came with the file
    return not named.is_relative_to(working)


def leads_outside(file: Path, directory: Path, *, linked: bool = False) -> bool:
    """Whether a file that a directory names, by a link or a list, lies elsewhere, and nobody trusts the directory by name: a stranger's may
    mean any private file.

    Links into the blobs of a hub cache are the hub's own; their names are hashes of what they hold, which only one who has it knows.
    linked: links may lead to what has the same name in the working directory, too, as users make them.
    """
    home, real = directory.resolve(), file.resolve()
    if HUB_BLOBS.search(real.parent.as_posix()) or (linked and real.name == file.name and real.is_relative_to(Path.cwd())):
        return False
    inside = [home, *(parent.parent / "blobs" for parent in (home, *home.parents) if parent.name == "snapshots")]
    return not any(real.is_relative_to(place) for place in inside) and not is_trusted_file(directory)


def outside_text(file: Path, directory: Path) -> str:
    """What `leads_outside` found, and how to allow it."""
    return (
        f"{file} is {file.resolve()}, which lies outside of {directory}; put a copy there, or, if you trust whoever made {directory}: "
        f"harness --trust {directory} … (before resume and any other command; for all of them: export {FILES_VARIABLE}={_place(directory)})"
    )


def linked_text(directory: Path) -> str | None:
    """The first text of a model, an adapter or a steering direction that lies elsewhere, and how to allow it; None where there is none.

    Texts (config.json, tokenizers, chat templates) go into what is exported, so that a stranger's link could publish a private file. Files
    of weights may lie anywhere: nothing but tensors is read from them.
    """
    files = (*directory.iterdir(), *(directory / CHAT_TEMPLATES).glob("*"))
    texts = sorted(file for file in files if file.suffix not in WEIGHTS and not file.is_dir())
    return next((outside_text(file, directory) for file in texts if leads_outside(file, directory, linked=True)), None)


def _is_default(key: str, value: Any) -> bool:
    item = find(Config, key)
    return value in (None, [], {}) or (item is not None and value == item.default)


def _paths(key: str, value: Any) -> Iterator[str]:
    """The paths and names in a key's value; of models that are merged what stands behind study:, and both sides of MODEL+ADAPTER."""
    for text in _texts(value):
        yield from filter(None, text.removeprefix(prefix_of(text)).partition("+")[::2]) if key.startswith(KEY) else [text]


def _texts(value: Any) -> Iterator[str]:
    """All texts in a nested value, its keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from (*_texts(str(key)), *_texts(below))
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _texts(below)


def _interpolations(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    outside_space = {key: value for key, value in document.items() if key != "space"}
    return ((key, value) for key, value in flat(outside_space) if any("${" in text for text in (key, *_texts(value))))


def _studies(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Studies that a sweep learns from, by name or path."""
    search = document.get("search")
    if not isinstance(search, Mapping):
        return
    for key in ("warm_start", "scaling_studies"):
        entries = search.get(key)
        yield from ((f"search.{key}", one) for one in (entries if isinstance(entries, list) else [entries]) if isinstance(one, str))


def _shown(key: str, value: Any) -> str:
    from harness.config.user_yaml import in_one_line

    text = re.sub(r"://[^@/\s]*@", "://…@", value if isinstance(value, str) else in_one_line(value))
    text = " ".join(text.split())
    return f"{key}={text if len(text) <= SHOWN_CHARACTERS else f'{text[:SHOWN_CHARACTERS]}…'}"
