"""Data that is elsewhere, fetched once into the cache, and read there like any other.

    <cache>/remote/<path, subset>/         as it was when it was first asked for; delete it to fetch it anew
        <file or directory of an address>  by fsspec: s3://, gs://, https://
        dataset_dict.json, …               a data set of the hub, as Hugging Face datasets saves it

Runs on machines without a network find it there, once `harness data` or a sweep's preparation fetched it. What is in it decides the
fingerprint, as it does for files.
"""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from glob import has_magic
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.config.errors import InputError, in_short, wrong_value
from harness.config.remote_path import hub_name, is_remote
from harness.config.schema import DataConfig, each, evaluation_sections
from harness.data.cache_entry import open_or_build
from harness.runs.cache import default_cache_dir
from harness.runs.deadline import answer_within

log = logging.getLogger("harness")

ANSWER_SECONDS = 4.0
"""How long an address may take to answer before it counts as out of reach."""
EXTRA = "pip install 'harness[hub]'"


def local_path(path: str, subset: str | None, *, key: str, cache_dir: Path, bare: bool = False) -> str:
    """Where the data of a `path` are on this machine, fetched if they are elsewhere and not in the cache yet.

    subset: of a data set of the hub; None: its only or default one. key: configuration key of the source, e.g. data.sources.docs;
    bare: its value itself is the path.
    Raises InputError for what cannot be fetched.
    """
    name = hub_name(path)
    if subset is not None and name is None:
        raise wrong_value(f"{key}.subset", subset, f"{path} has no subsets; only a data set of the Hugging Face hub has (ORG/NAME)")
    if not is_remote(path):
        return path
    where = key if bare else f"{key}.path"
    entry = cache_dir / "remote" / hashlib.sha256(f"{path}\0{subset or ''}".encode()).hexdigest()[:32]

    def build(building: Path) -> None:
        log.info("%s: fetching %s", key, path)
        if name is None:
            _fetch_address(path, building, where)
        else:
            _fetch_from_hub(name, subset, building, where, path)

    found = open_or_build(entry, lambda entry: entry if entry.is_dir() else None, build)
    return str(found if name is not None else next(found.iterdir()))


def fetch_all(data: DataConfig) -> None:
    """Fetch what sources and evaluation sets name that is elsewhere. Raises InputError for what cannot be fetched."""
    sections = {"sources": data.sources, **{name: getattr(data, name) for name in evaluation_sections(type(data))}}
    for section, entries in sections.items():
        for name, entry in entries.items():
            for path in each(getattr(entry, "path", None) or []):
                local_path(path, entry.subset, key=f"data.{section}.{name}", cache_dir=default_cache_dir(data.cache_dir))


def _fetch_address(address: str, building: Path, key: str) -> None:
    """A file, a directory with all below it, or what a glob matches, into `building` under its own name."""
    import fsspec

    options: dict[str, Any] = {}
    try:
        if is_web := address.startswith(("http://", "https://")):
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, connect=ANSWER_SECONDS, sock_connect=ANSWER_SECONDS, sock_read=30)
            options = {"client_kwargs": {"timeout": timeout}}
        files, root = fsspec.url_to_fs(address, **options)
        is_glob = not is_web and has_magic(root)
        target = building / ("data" if is_glob else root.partition("?")[0].rstrip("/").rpartition("/")[2] or "data")
        # Libraries of some file systems try for minutes, whatever is wrong.
        kind = "file" if is_web else answer_within(ANSWER_SECONDS, partial(_kind, files, root, is_glob=is_glob))
        files.get(root, f"{target}/" if is_glob else str(target), recursive=kind == "directory")
    except ImportError as error:
        raise wrong_value(key, address, f"{_missing(address)} ({error})") from error
    except Exception as error:
        raise _out_of_reach(key, address, error) from error
    if not target.exists():
        raise wrong_value(key, address, "nothing there")


def _kind(files: Any, root: str, *, is_glob: bool) -> str:
    """What a file system has at a path. Raises FileNotFoundError."""
    if is_glob:
        if not files.glob(root):
            raise FileNotFoundError(root)
        return "glob"
    return str(files.info(root)["type"])


def _missing(address: str) -> str:
    """Which package reads such addresses, and how to install it."""
    from fsspec.registry import known_implementations

    protocol = address.partition("://")[0]
    package = known_implementations.get(protocol, {}).get("class", "fsspec").split(".")[0]
    return f"{protocol}:// needs {package}, which is not installed: pip install {package}" if package != "fsspec" else f"needs {EXTRA}"


def _fetch_from_hub(name: str, subset: str | None, building: Path, key: str, path: str) -> None:
    """A data set of the hub, all splits of one subset, into `building`."""
    if find_spec("datasets") is None:
        raise wrong_value(key, path, f"no such file or directory; a data set of the hub needs datasets: {EXTRA}")
    from huggingface_hub import HfApi

    repository, _, revision = name.partition("@")
    try:
        # Asked first, once and not for long: the library itself retries for a minute.
        asked = partial(HfApi().dataset_info, repository, revision=revision or None, timeout=ANSWER_SECONDS)
        commit = answer_within(ANSWER_SECONDS, asked).sha
    except Exception as error:
        raise _out_of_reach(key, path, error) from error
    from datasets import load_dataset  # takes seconds

    try:
        load_dataset(repository, subset, revision=commit).save_to_disk(building)
    except Exception as error:
        raise wrong_value(key, path, f"the data set cannot be read: {in_short(error)}") from error


def _out_of_reach(key: str, path: str, error: Exception) -> InputError:
    here = "" if "://" in path else "no such file or directory, and as a data set of the hub "
    return wrong_value(
        key,
        path,
        f"{here}it cannot be fetched ({in_short(error)}); valid: what is there, where there is a network, or was fetched before",
    )
