"""Code that comes along with a model or tokenizer: never run, unless the user names that model on the command line.

There is no configuration key for it on purpose. A configuration may come from a stranger; what the command line says does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from harness.config.documents import as_mapping, read_json
from harness.config.locations import in_home

TRUST_VARIABLE = "HARNESS_TRUST_REMOTE_CODE"
"""Set by --trust-remote-code, inherited by workers and their trials: names and directories, separated as in $PATH."""
CONFIGURATIONS = ("config.json", "tokenizer_config.json")
"""Where `auto_map` would name the code."""
ATTENTION_KEYS = ("_attn_implementation", "attn_implementation", "_attn_implementation_internal")
"""Where a name such as owner/kernel would have transformers run it."""


def trust(paths: Iterable[str]) -> None:
    """Let this process, and those that it starts, run the code of these models."""
    os.environ[TRUST_VARIABLE] = os.pathsep.join(map(_named, paths))


def is_trusted(path: str) -> bool:
    """Whether the user trusts this local directory or hub name."""
    given = os.environ.get(TRUST_VARIABLE, "")
    return bool(given) and _named(path) in given.split(os.pathsep)


def _named(path: str) -> str:
    local = in_home(path)
    return str(local.resolve()) if local.exists() else path


def remote_code_problems(key: str, path: str) -> Iterator[str]:
    """One line if the local directory `path`, given in `key`, brings untrusted code. Hub models are refused when they load."""
    if is_trusted(path):
        return
    for name in CONFIGURATIONS:
        file = in_home(path) / name
        try:
            document = as_mapping(read_json(file), file)
        except OSError:
            continue  # not there
        brings = document.get("auto_map")
        kernels = [kernel for place in ATTENTION_KEYS if isinstance(kernel := document.get(place), str) and "/" in kernel]
        if kernels:
            yield (
                f"{key}={path}: its {name} names code of the hub to be run for attention ({kernels[0]}), and nobody asked for it. Take "
                f"that out, or say: harness --trust-remote-code {path} …"
            )
            return
        if brings:
            yield (
                f"{key}={path}: its {name} names code of its own to be run (auto_map), and nobody asked for it. Read that code; then "
                f"take auto_map out, if transformers knows this kind of model itself, or say: harness --trust-remote-code {path} …"
            )
            return
