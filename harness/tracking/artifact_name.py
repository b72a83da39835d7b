"""Names that W&B allows artifacts."""

from __future__ import annotations

import re


def artifact_name(name: str) -> str:
    """With the characters that W&B allows in one."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
