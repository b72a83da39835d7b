"""Exit codes: of the command line, and between an attempt's process and its worker."""

from __future__ import annotations

DONE = 0
FAILED = 1
BAD_INPUT = 2
STOPPED = 75
"""An attempt was asked to stop, saved a checkpoint and left (EX_TEMPFAIL of sysexits.h)."""
TRUNK_UNDER_WAY = 76
"""Of an attempt: it has not begun, since another trial trains just now what this one would train first."""
RESERVED_TOO_LITTLE = 77
"""Of an attempt: it has not begun, since a trunk is gone on which what was reserved for it relied."""
OUT_OF_MEMORY = 78
"""Of an attempt: the host or the device had no memory left for it. Another one would come to the same, unless it needs less."""
MACHINE_FAULT = 79
"""Of an attempt: a disk failed it (see `harness.runs.machine_faults`); of a worker: it leaves for that."""
