"""Which W&B server the client would talk to, without importing it."""

from __future__ import annotations

import configparser
import os
from pathlib import Path


def server_address() -> str:
    """$WANDB_BASE_URL, else what `wandb login --host` has left in the client's settings; "" for the client's own default."""
    if given := os.environ.get("WANDB_BASE_URL"):
        return given.rstrip("/")
    settings = configparser.ConfigParser(interpolation=None)
    places = [Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"), Path(os.environ.get("WANDB_DIR") or ".") / "wandb"]
    try:
        settings.read([place.expanduser() / "settings" for place in places])
    except (configparser.Error, UnicodeDecodeError):
        return ""  # the client leaves such a file aside, too
    return settings.get("default", "base_url", fallback="").rstrip("/")
