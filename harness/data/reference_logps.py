"""Log-probabilities of answers under a reference, on disk: one number a document, made as rows need them.

    <cache>/reference/<fingerprint>/
        logps.bin     float64 [documents], NaN where it was not made yet
        meta.json     counts

A pair takes 16 bytes. An entry grows, and numbers in it never change: each is on the disk whole or not at all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.cache_entry import META
from harness.data.order import Float64
from harness.data.ragged import Int64
from harness.runs.files import read_json, write_json

FILE = "logps.bin"


def create_logps(directory: Path, documents: int) -> None:
    """Write an entry in which nothing is made yet into an empty directory."""
    np.full(documents, np.nan).tofile(directory / FILE)
    write_json(directory / META, {"documents": documents})


def open_logps(entry: Path) -> Float64 | None:
    """The numbers of an entry, a memory map; None where there is none, or one whose file a crash of the machine cut short."""
    meta = read_json(entry / META)
    if meta is None:
        return None
    try:
        # numpy refuses a file of another size.
        logps: Float64 = np.memmap(entry / FILE, dtype=np.float64, mode="r").reshape(meta["documents"])
    except (OSError, ValueError):
        return None
    return logps


def write_logps(entry: Path, documents: Int64, logps: Float64) -> None:
    """Add those of some documents (both [n])."""
    stored = np.memmap(entry / FILE, dtype=np.float64, mode="r+")
    stored[documents] = logps
    stored.flush()
