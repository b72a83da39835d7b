"""Which split of a data set a file belongs to, told from its name as the Hugging Face hub does."""

from __future__ import annotations

import re
from pathlib import Path

SHARD = re.compile(r"(?P<split>\w+(\.\w+)*)-\d{5}-of-\d{5}\b")
"""train_sft-00000-of-00003-a1b2.parquet"""
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLITS = {word: split for split, words in NAMES.items() for word in words}
_WORD = re.compile(rf"(?:^|[\W_\d])({'|'.join(sorted(_SPLITS, key=len, reverse=True))})(?:[\W_\d]|$)", re.IGNORECASE)


def split_of(file: Path) -> str | None:
    """The split that a file's path below its data set's directory names: by its own name, else by a directory's; None where none does."""
    shard = SHARD.match(file.name)
    if shard:
        name = shard["split"]
        return None if name == "data" else _SPLITS.get(name.lower(), name)  # data-…: as Hugging Face datasets saves any split
    for part in reversed(file.parts):
        if found := _WORD.search(part):
            return _SPLITS[found[1].lower()]
    return None
