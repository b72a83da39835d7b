"""What attempts leave of a W&B run on disk: a directory each, by the real client, with the log of everything that was sent or is to be.

<run>/wandb/offline-run-20260102_030405-<id>/run-<id>.wandb      of an offline attempt; `run-…` instead of `offline-run-…` online
                                             run-<id>.wandb.synced   when it is in W&B
                                             files/              what the log names: media, requirements

Of attempts that start in the same second, the second one's directory has a -1 at its end, and so on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PIECE = re.compile(r"(?P<offline>offline-)?run-(?P<time>\d{8}_\d{6})-(?P<id>[\w-]+)")


@dataclass(frozen=True)
class Piece:
    """One attempt's part of a run."""

    path: Path
    id: str
    offline: bool

    @property
    def log(self) -> Path:
        return self.path / f"run-{self.id}.wandb"

    @property
    def marker(self) -> Path:
        """The client's own mark, which keeps `wandb sync` from uploading it again."""
        return self.path / f"run-{self.id}.wandb.synced"

    @property
    def files(self) -> Path:
        return self.path / "files"


def pieces_of(directory: Path, run_id: str | None = None) -> list[Piece]:
    """The pieces in a run's directory, of one W&B run or of any, in the order of their attempts."""
    found = []
    for path in (directory / "wandb").glob("*run-*"):
        match = PIECE.fullmatch(path.name)
        if match and path.is_dir():
            # A directory's name does not tell an id that ends with -1 from the number of an attempt; the log's does.
            log = next(path.glob("run-*.wandb"), None)
            piece_of = match["id"] if log is None else log.stem.removeprefix("run-")
            if run_id in (None, piece_of):
                found.append((match["time"], Piece(path, piece_of, match["offline"] is not None)))
    return [piece for _, piece in sorted(found, key=lambda pair: (pair[0], pair[1].path.name))]
