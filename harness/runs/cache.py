"""Where the cache is: tokenized text, samples of teachers, and other things that can be made again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness.config.locations import in_home

CACHE_VARIABLE = "HARNESS_CACHE"


def default_cache_dir(configured: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The cache: as configured (data.cache_dir), else $HARNESS_CACHE, else ~/.cache/harness."""
    return in_home(configured or environment.get(CACHE_VARIABLE) or "~/.cache/harness")
