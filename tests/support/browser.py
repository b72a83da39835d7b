"""Pages as a browser shows them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--window-size=1000,2600", "--virtual-time-budget=20000"]


def dom_of(address: str, profile: Path) -> str:
    """The document at an address, when its scripts have run. profile: a directory for the browser's own files."""
    command = ["chromium", *FLAGS, f"--user-data-dir={profile}", "--dump-dom", address]
    environment = {**os.environ, "HOME": str(profile)}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True, env=environment).stdout
