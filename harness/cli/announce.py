"""The first sign of life of a command that takes seconds."""

from __future__ import annotations

import os
import sys

from harness.config.terminal import say


def announce(text: str) -> None:
    """Tell whoever watches, on stderr, what is about to be done, before anything slow is imported; on ranks other than 0 nothing.

    Into a pipe or a file nothing is said: there an error stays one message.
    """
    if sys.stderr.isatty() and os.environ.get("RANK", "0") == "0" and os.environ.get("SLURM_PROCID", "0") == "0":
        say(f"{text} …", err=True)
