"""Paths of data that are elsewhere: addresses, and names of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

HUB = "hf://datasets/"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://.+")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", re.ASCII)
_FILE_ENDING = re.compile(r"\.(jsonl|ndjson|json|csv|parquet|arrow|txt|md|gz|zst|tsv|xml|zip|feather|bin)$", re.IGNORECASE)


def is_remote(path: str) -> bool:
    """Whether a path of data is fetched before it is read: s3://…, https://…, hf://datasets/ORG/NAME, or ORG/NAME that is no path here."""
    return _ADDRESS.fullmatch(path) is not None or hub_name(path) is not None


def hub_name(path: str) -> str | None:
    """ORG/NAME, or ORG/NAME@REVISION, of a data set of the hub; None for every other path."""
    if path.startswith(HUB):
        name = path.removeprefix(HUB).strip("/")
        return name if _HUB_NAME.fullmatch(name) else None
    if not _HUB_NAME.fullmatch(path) or _FILE_ENDING.search(path):
        return None
    return None if Path(path).exists() or Path(path).parent.is_dir() else path
