"""Models whose texts nothing ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def without_end_token(model: Path, copy: Path) -> Path:
    """A copy of a model without the end token of its tokenizer and of its configuration."""
    shutil.copytree(model, copy)
    for path in copy.glob("*config.json"):
        kept = {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("eos_token")}
        path.write_text(json.dumps(kept))
    return copy
