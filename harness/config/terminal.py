"""What strangers wrote, on a terminal: their names, tokens, texts and errors may hold markup and control characters.

All that people read goes through here: `say` for lines, `LiteralConsole` of `harness.config.literal_console` for tables and bars, and
`log_to_stderr` for the log. Control characters are shown, so that none moves the cursor, sets the title or hides a word.
"""

from __future__ import annotations

import logging
import re
import sys

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""All but tabs and line feeds: C0, DEL, C1, what turns the direction of a text, and halves of surrogate pairs, which cannot be written."""


def shown(text: str) -> str:
    """The text with its control characters as Python spells them, e.g. \\x1b."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print on stdout, or on stderr."""
    print(shown(str(text)), end="\n" if nl else "", file=sys.stderr if err else sys.stdout, flush=True)


def log_to_stderr(line: str, *, force: bool = False) -> None:
    """Set up the log of this process. force: in place of what is set up already."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter(line))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=force)


class _Stderr(logging.Handler):
    """Writes to what sys.stderr is at the moment: while a progress bar is shown, that puts lines above it rather than through it."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), err=True)
