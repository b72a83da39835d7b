"""Uploading copies of logs with the client's own `wandb sync`, in a process that dies with this one."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.runs.processes import die_with_parent
from harness.tracking.pieces import Piece

PARALLEL_UPLOADS = 8
POLL_SECONDS = 0.1


def upload(copies: list[Piece], working_directory: Path, *, stall_seconds: float) -> Iterator[Piece]:
    """Upload copies, and give each back when the client says that it has arrived; those that it does not give back have not.

    The client repeats what a server refuses for a while (429, 500). Without a further arrival for `stall_seconds` it is ended.
    """
    process = multiprocessing.get_context("spawn").Process(
        target=_wandb_sync, args=([str(copy.path) for copy in copies], str(working_directory)), daemon=True
    )
    process.start()
    waiting, newest = list(copies), time.monotonic()
    try:
        while True:
            # It writes its last marks before it ends.
            alive = process.is_alive()
            for copy in [copy for copy in waiting if copy.marker.exists()]:
                waiting.remove(copy)
                newest = time.monotonic()
                yield copy
            if not alive or not waiting or time.monotonic() - newest > stall_seconds:
                return
            process.join(POLL_SECONDS)
    finally:
        if waiting or process.is_alive():
            process.join(POLL_SECONDS if waiting else 10 * POLL_SECONDS)
            process.kill()
        process.join()


def _wandb_sync(paths: list[str], working_directory: str) -> None:
    """`wandb sync PATHS`, what it says going to a file."""
    die_with_parent()
    os.chdir(working_directory)
    with Path("wandb-sync.txt").open("ab", buffering=0) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.argv = ["wandb", "sync", "--yes", "-n", str(PARALLEL_UPLOADS), *paths]
    runpy.run_module("wandb", run_name="__main__")


def what_it_said(working_directory: Path, run_id: str) -> str | None:
    """The last line with an error about a run in what `wandb sync` said, or its last error about anything."""
    try:
        lines = (working_directory / "wandb-sync.txt").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    errors = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
    about_it = [line for line in errors if run_id in line]
    found = about_it or errors
    return found[-1] if found else None
