"""A model directory as something to merge."""

from __future__ import annotations

import re
from pathlib import Path

from harness.config.documents import DamagedError, as_mapping, read_json, read_text
from harness.merging.safetensors_files import files_fingerprint, stored_tensors
from harness.merging.source import Source
from harness.merging.vocabulary import read_vocabulary

LICENCE = re.compile(r"^license:[ \t]*['\"]?([\w.+-]+)", re.MULTILINE)
MOST_CARD_BYTES = 1_000_000


def folder_source(folder: Path, label: str, *, key: str) -> Source:
    """The model in a directory, which is `label` in the user's words, given in `key`; its headers are read. Raises InputError."""
    config = as_mapping(read_json(folder / "config.json"), folder / "config.json")
    tensors, files = stored_tensors(folder, key=key)
    fingerprint = files_fingerprint(files, (folder / "config.json").read_bytes())
    return Source(label, config, tensors, read_vocabulary(folder), fingerprint, folder, is_whole=True, licence=licence_of(folder))


def licence_of(folder: Path) -> str | None:
    """What the model card's front matter says."""
    try:
        text = read_text(folder / "README.md", most_bytes=MOST_CARD_BYTES)
    except (OSError, DamagedError):
        return None
    front = text.split("\n---", 1)[0] if text.startswith("---\n") else ""
    found = LICENCE.search(front)
    return found[1] if found else None
