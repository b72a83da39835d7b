"""What Ctrl-C and SIGTERM come to, once what they stopped is safe."""

from __future__ import annotations

import signal
from typing import NoReturn


def end_by(number: int) -> NoReturn:
    """Raise what the signal would have raised without us: the caller's program does not go on as if all had been done."""
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)
    raise KeyboardInterrupt
