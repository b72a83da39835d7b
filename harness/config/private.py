"""Removes what must not leave a machine with a recipe: paths, hosts, users, addresses, secrets, and the owner's accounts.

Paths become their last part: it says which file is meant, and a fingerprint in the recipe says whether one has the same.
"""

from __future__ import annotations

import copy
import getpass
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.config.merge_words import prefix_of
from harness.config.nested import flat, set_value
from harness.config.overrides import GroupOverride, Override, ValueOverride, hydra_text
from harness.config.schema import TASK_FILES

PATH_KEY = re.compile(
    r"""model\.(path|checkpoint|merge\.base|merge\.ingredients\.[^.]+\.path)
    |tokenizer\.path|adapter\.(pairs|vector)|objective\.(teacher|reference)
    |data\.(chat_template|\w+\.[^.]+\.(schema_)?path|lm_eval\.[^.]+\.tasks|preference\.[^.]+\.reference)
    |data\.sources\.[^.]+\.synth\.(seeds\.[^.]+\.path|teachers\.[^.]+\.model)""",
    re.VERBOSE,
)
"""Configuration keys that name files (or hold lists of them), by the whole key."""
NAME_OR_FILE = {r"data\.chat_template": (".jinja",), r"data\.lm_eval\.[^.]+\.tasks": TASK_FILES}
"""Those of them that may also name what ships, which is no path; and how files end there."""
NOT_OF_THE_RECIPE = ("tracking.", "data.cache_dir", "trainer.threads")
"""Keys of the owner's machine and accounts."""
PATHS_OF_THE_OWNER = ("data.cache_dir",)
REMOVED = "REMOVED"
SECRET_NAME = re.compile(r"(^|[._-])(password|passwd|secret|token|(api|access)_?key|credentials?)($|[._-])", re.IGNORECASE)
ASSIGNED_SECRET = re.compile(r"\b((?:\w+[._-])*(?:password|passwd|secret|token|api_?key|access_?key))(\s*[=:]\s*)[^\s,;]+", re.IGNORECASE)
TOKENS = re.compile(
    r"\b(hf_\w{8,}|sk-[\w-]{8,}|gh[opsru]_\w{8,}|wandb_v1_\w+|AKIA\w{12,}|xox[abp]-[\w-]+|(?<!commit )(?<!revision )(?<!@)[0-9a-f]{40})\b"
)
"""An older W&B key looks like a commit, which is known by the word before it, or by its key."""
COMMIT = re.compile(r"[0-9a-f]{40}")
COMMIT_KEY = re.compile(r"(^|[._])(revision|commit|sha)$")
ADDRESS = re.compile(r"\b[a-zA-Z][\w+.-]*://(?!json-schema\.org/)[^\s'\"<>]+")
"""But for the name of a JSON schema's dialect, which is the same everywhere."""
MAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
ABSOLUTE = re.compile(r"(?<![\w.:/~])~?/[^\s'\",:;=()\[\]{}<>|]+|\b[A-Za-z]:\\[^\s'\",;]+")
SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH|DSN|DATABASE_URL|PWD|PASS(_|$)|PW(_|$)", re.IGNORECASE)
WORKING_DIRECTORIES = ("PWD", "OLDPWD")
URL_PASSWORD = re.compile(r"\w://[^/\s:@]*:([^/\s@]+)@")
"""Whatever the variable is called."""
PRIVATE_PATH = re.compile(r"(?<![\w.:/~])(~/[^\s'\",:;=()\[\]{}<>|]+|(/[^\s'\",:;=()\[\]{}<>|/]+){2,}/?)|\b[A-Za-z]:\\[^\s'\",;]+")
"""In a text that is trained on or searched for, a single /word may be a control token."""
OWNER_VARIABLES = ("USER", "LOGNAME", "USERNAME", "SUDO_USER", "WANDB_ENTITY", "WANDB_USERNAME", "SLURM_JOB_USER", "SLURM_JOB_ACCOUNT")
HOST_VARIABLES = ("HOSTNAME", "SLURMD_NODENAME", "SLURM_SUBMIT_HOST", "PGHOST")
COMMON = {"root", "user", "admin", "home", "localhost", "ubuntu", "harness", "nobody", "runner", "model", "data", "text", "train", "test"}
"""Names that identify nobody and occur in ordinary text."""


class Scrub:
    """Removes private text; the same path always becomes the same name."""

    def __init__(self, *, secrets: Iterable[str] = (), words: Iterable[str] = ()) -> None:
        """Args: secrets, removed wherever they stand; words, names of users and hosts, removed where they stand as words."""
        self._names: dict[str, str] = {}
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 6}, key=len, reverse=True)
        names = sorted({word for word in words if len(word) >= 3 and word.lower() not in COMMON}, key=len, reverse=True)
        self._words = re.compile(rf"(?<![A-Za-z0-9])({'|'.join(map(re.escape, names))})(?![A-Za-z0-9])", re.IGNORECASE) if names else None

    @classmethod
    def of_this_machine(cls) -> Scrub:
        """With the user, the hosts and the secrets of this process's environment."""
        words = {os.environ.get(name, "") for name in (*OWNER_VARIABLES, *HOST_VARIABLES)} | {Path.home().name, socket.gethostname()}
        words |= {word.partition(".")[0] for word in words}
        try:
            words.add(getpass.getuser())
        except (KeyError, OSError):
            words.discard("")  # a user without a name, as in some containers
        named = [value for name, value in os.environ.items() if SECRET_VARIABLE.search(name) and name not in WORKING_DIRECTORIES]
        inside = [found for value in os.environ.values() for found in URL_PASSWORD.findall(value)]
        return cls(secrets=[*named, *inside], words=words)

    def path(self, value: str) -> str:
        """The last part of a path that is absolute, leaves the working directory or contains a private name; others unchanged."""
        if value.startswith("hf://"):  # public, and the same everywhere
            return self._plain(value)
        prefix = prefix_of(value)
        local = value.removeprefix(prefix).replace("\\", "/")
        is_private = local.startswith(("/", "~")) or ".." in local.split("/") or re.match(r"[A-Za-z]:/|\w+://", local)
        if not is_private and self.text(value) == value:
            return value
        if value not in self._names:
            last = self._plain(local.rstrip("/").rpartition("/")[2]) or "path"
            taken = set(self._names.values())
            names = (prefix + (last if n == 1 else f"{n}-{last}") for n in range(1, 10_000))
            self._names[value] = next(name for name in names if name not in taken)
        return self._names[value]

    def text(self, text: str) -> str:
        """Free text without paths, addresses, names and secrets."""
        text = ADDRESS.sub(REMOVED, text)
        text = ABSOLUTE.sub(lambda found: self.path(found[0]), text)
        return self._plain(ASSIGNED_SECRET.sub(rf"\1\2{REMOVED}", text))

    def _plain(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REMOVED)
        text = TOKENS.sub(REMOVED, MAIL.sub(REMOVED, text))
        return self._words.sub(REMOVED, text) if self._words else text

    def value(self, value: Any) -> Any:
        """Nested plain values; values of keys that name a secret are removed."""
        if isinstance(value, str):
            return self.path(value) if "/" in value and not re.search(r"\s", value) else self.text(value)
        if isinstance(value, Mapping):
            return {key: REMOVED if SECRET_NAME.search(str(key)) else self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list | tuple) else value

    def leaf(self, key: str, value: Any) -> Any:
        """The value of a dotted configuration key (or of a group, which is none); numbers and kinds stay as they are."""
        if PATH_KEY.fullmatch(key) and isinstance(value, str | list):
            return self.path(value) if isinstance(value, str) else [self.path(str(path)) for path in value]
        if key.startswith("trainer.callbacks."):
            return self.value({key.rpartition(".")[2]: value})[key.rpartition(".")[2]]
        return self._kind_or_text(value, keep_commits=bool(COMMIT_KEY.search(key)))

    def _kind_or_text(self, value: Any, *, keep_commits: bool) -> Any:
        """A kind or a name loses secrets alone; a text, whatever is private in it."""
        if isinstance(value, list):
            return [self._kind_or_text(item, keep_commits=keep_commits) for item in value]
        if isinstance(value, Mapping):
            return {name: self._kind_or_text(item, keep_commits=keep_commits) for name, item in value.items()}
        if not isinstance(value, str) or (keep_commits and COMMIT.fullmatch(value) and value not in self._secrets):
            return value
        if re.search(r"[\s/@]", value):
            value = PRIVATE_PATH.sub(lambda found: self.path(found[0]), ADDRESS.sub(REMOVED, value))
            return self._plain(ASSIGNED_SECRET.sub(rf"\1\2{REMOVED}", value))
        for secret in self._secrets:
            value = value.replace(secret, REMOVED)
        return TOKENS.sub(REMOVED, value)

    def config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A nested configuration; what is not of the recipe is left out, so that its reader's own defaults take its place."""
        kept: dict[str, Any] = {}
        for key, value in flat(dict(values)):
            if not is_owner_specific(key):
                set_value(kept, key, self.leaf(key, value))
        return kept

    def overrides(self, parsed: Iterable[Override]) -> list[str]:
        """Overrides as text; those that are not of the recipe are left out."""
        found = []
        for override in parsed:
            if isinstance(override, GroupOverride) and is_owner_specific(f"{override.group}."):
                continue
            if not isinstance(override, ValueOverride):
                found.append(override.to_hydra())
            elif not is_owner_specific(override.key):
                nested = isinstance(override.value, dict)
                leaves = dict(flat(override.value, f"{override.key}.")) if nested else {override.key: override.value}
                clean = {key: self.leaf(key, value) for key, value in leaves.items() if not is_owner_specific(key)}
                found += [override.text] if clean == leaves else [f"{key}={hydra_text(value)}" for key, value in clean.items()]
        return found


def is_path(key: str, value: Any) -> bool:
    """Whether a configuration key names a file or a directory by this value, rather than nothing, or what ships by its name."""
    if not isinstance(value, str) or not (key in PATHS_OF_THE_OWNER or PATH_KEY.fullmatch(key)):
        return False
    return all(value.endswith(endings) for pattern, endings in NAME_OR_FILE.items() if re.fullmatch(pattern, key))


def with_paths(values: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """A nested configuration with its paths, and those in lists of paths, changed. change: a new path for a key and its path."""
    changed: dict[str, Any] = {}
    for key, value in flat(values):
        if isinstance(value, list):
            new: Any = [change(key, one) if is_path(key, one) else one for one in value]
        else:
            new = change(key, value) if is_path(key, value) else value
        changed |= {key: new} if new != value else {}
    found = copy.deepcopy(dict(values)) if changed else dict(values)
    for key, value in changed.items():
        set_value(found, key, value)
    return found


def paths_in(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, path) of every path in a nested configuration, those in lists of paths too."""
    for key, value in flat(values):
        yield from ((key, path) for path in (value if isinstance(value, list) else [value]) if is_path(key, path))


def is_owner_specific(key: str) -> bool:
    """Whether a configuration key belongs to the owner's machine rather than to the recipe."""
    return key.startswith(NOT_OF_THE_RECIPE)
