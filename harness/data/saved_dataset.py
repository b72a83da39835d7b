"""Data sets that Hugging Face datasets saved to disk (`save_to_disk`), without that library.

dataset_dict.json         of a DatasetDict only: {"splits": ["train", …]}, each in a directory of its name
state.json                {"_data_files": [{"filename": "data-00000-of-00001.arrow"}, …], …}
dataset_info.json         features and provenance: not needed, since arrow files have a schema
data-00000-of-00001.arrow
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.config.errors import InputError, did_you_mean, wrong_value


def saved_files(directory: Path, split: str | None, *, key: str, bare: bool = False) -> list[Path] | None:
    """The arrow files of a saved data set, in its order; None where the directory is none.

    Raises InputError, naming the configuration `key`, for a split that is not there, no choice among several, and files that are missing.
    bare: there is no key for the split.
    """
    if (directory / "dataset_dict.json").is_file():
        splits = _read(directory / "dataset_dict.json", key).get("splits")
        if not isinstance(splits, list) or not splits:
            raise InputError(f"{key}: {directory}/dataset_dict.json: names no splits; valid: a DatasetDict that was saved whole")
        directory /= _chosen(splits, split, directory, key, bare=bare)
        if not (directory / "state.json").is_file():
            raise InputError(f"{key}: {directory}: no state.json in it; valid: a DatasetDict that was saved whole")
    elif not (directory / "state.json").is_file() or split is not None:
        return None
    entries = _read(directory / "state.json", key).get("_data_files")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "filename" in entry for entry in entries):
        return None  # another program's state.json
    files = [directory / str(entry["filename"]) for entry in entries]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise InputError(f"{key}: {missing}: no such file, but {directory}/state.json names it; valid: a data set that was saved whole")
    if not files:
        raise InputError(f"{key}: {directory}: a data set without any row")
    return files


def _chosen(splits: list[Any], split: str | None, directory: Path, key: str, *, bare: bool) -> str:
    names = [str(name) for name in splits]
    if split is None and len(names) == 1:
        return names[0]
    if split is None:
        choose = f"name one, as in {directory / names[0]}" if bare else f"choose one with {key}.split"
        raise InputError(f"{key}: {directory} has the splits {', '.join(names)}; {choose}")
    if split not in names:
        hint = did_you_mean(split, names)
        raise wrong_value(f"{key}.split", split, f"no such split in {directory}; valid: {', '.join(names)}.{hint}")
    return split


def _read(file: Path, key: str) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{key}: {file}: cannot be read ({error}); valid: a data set that was saved whole") from error
    return document if isinstance(document, dict) else {}
