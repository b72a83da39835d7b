"""Where what can be made again is kept: tokenized text, samples of teachers, what was found ready for training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

CACHE_VARIABLE = "HARNESS_CACHE"


def default_cache_dir(configured: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The cache: as configured (data.cache_dir), else $HARNESS_CACHE, else ~/.cache/harness."""
    return Path(configured or environment.get(CACHE_VARIABLE) or "~/.cache/harness").expanduser()
