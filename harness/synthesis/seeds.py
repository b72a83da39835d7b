"""Seeds: the rows of the seed files and their combinations, in an order that is known before anything is written."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.errors import InputError, wrong_value
from harness.config.synth_schema import SeedConfig, SynthConfig
from harness.data.row import Row as FileRow
from harness.data.rows import VALID_ROW_ENDINGS, holds_rows, nothing_in, read_rows
from harness.data.sources import find_sources
from harness.runs.cache import default_cache_dir
from harness.synthesis.row import SeedRow

ID_FIELD = "id"


@dataclass(frozen=True)
class Seeds:
    """All combinations of the rows of the seed files; of several files the last one changes fastest."""

    files: Mapping[str, Sequence[tuple[SeedRow, dict[str, Any]]]]
    """By name: each row, and its fields."""
    chosen: Sequence[int]
    """Which of the combinations, by their numbers."""

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[SeedRow, dict[str, Any]]:
        """A combination, and its fields by the name of the seed. Raises IndexError."""
        rest = self.chosen[index]
        parts: dict[str, tuple[SeedRow, dict[str, Any]]] = {}
        for name in reversed(list(self.files)):
            rest, place = divmod(rest, len(self.files[name]))
            parts[name] = self.files[name][place]
        rows = {name: parts[name] for name in self.files}
        seed = SeedRow("+".join(row.id for row, _ in rows.values()), "+".join(row.content for row, _ in rows.values()))
        return seed, {name: fields for name, (_, fields) in rows.items()}

    def fingerprints(self) -> dict[str, str]:
        """Of what is read of each file."""
        return {name: hash_of([row.content for row, _ in rows]) for name, rows in self.files.items()}


def read_seeds(config: SynthConfig, written: Mapping[str, frozenset[str]], also: Mapping[str, frozenset[str]]) -> Seeds:
    """The seeds of a recipe.

    Args: written: fields that templates read, by the name of the seed: what a row's content is; also: fields that are read besides.
    Raises InputError for files that cannot be read, and rows that lack a field.
    """
    none: frozenset[str] = frozenset()
    files = {name: _rows(name, one, written.get(name, none), also.get(name, none)) for name, one in config.seeds.items()}
    total = math.prod(map(len, files.values()))
    if config.rows is None:
        return Seeds(files, range(total))
    if config.rows > total:
        raise wrong_value("rows", config.rows, f"there are {total:,} combinations of seeds; valid: at most so many, or null for all")
    return Seeds(files, sorted(random.Random(config.seed).sample(range(total), config.rows)))


def _rows(name: str, config: SeedConfig, written: frozenset[str], also: frozenset[str]) -> list[tuple[SeedRow, dict[str, Any]]]:
    key = f"seeds.{name}"
    files = find_sources(config.path, key=key, split=config.split, subset=config.subset, cache_dir=default_cache_dir(None)).files
    found: list[tuple[SeedRow, dict[str, Any]]] = []
    seen: Counter[str] = Counter()
    for file in files:
        if not holds_rows(file):
            raise InputError(f"{key}.path: {file}: a text file holds no rows; valid: {VALID_ROW_ENDINGS}")
        for row in read_rows(file, [ID_FIELD, *sorted(written | also)], key=key):
            fields = {field: _value(row, field) for field in sorted(written | also)}
            content = hash_of({field: fields[field] for field in sorted(written)})
            seen[content] += 1
            if seen[content] > 1:  # the same again has noise of its own
                content = f"{content}#{seen[content]}"
            own = row.values.get(ID_FIELD)
            seed = SeedRow(content if own is None else str(own), content)
            _refuse_surrogates(row, [seed.id, fields])
            found.append((seed, fields))
    if not found:
        raise nothing_in(files, "row", key=key)
    return found


def _value(row: FileRow, field: str) -> Any:
    if row.values.get(field) is None:
        raise InputError(f"{row.where}: no field {field!r}, which the recipe reads; fields there: {', '.join(row.fields) or 'none'}")
    return row.values[field]


def _refuse_surrogates(row: FileRow, read: Any) -> None:
    """What half a surrogate pair is in can be written nowhere."""
    try:
        json.dumps(read, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise InputError(f"{row.where}: it holds half a surrogate pair, which is not Unicode text; valid: without it") from None


def hash_of(document: Any) -> str:
    """16 hex digits of a plain value."""
    return hashlib.blake2b(json.dumps(document, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
