"""Where a run is to be seen in W&B, as its own files say."""

from __future__ import annotations

from harness.runs.directory import RunDirectory
from harness.runs.files import read_json


def page_in_wandb(run: RunDirectory) -> str | None:
    """The address of the page that it was synced to, or logged to; None where no file knows one. Raises DamagedError."""
    for path in (run.wandb_synced, run.wandb_opened):
        url = (read_json(path) or {}).get("url")
        # A run may come from a stranger: what a browser would do is only to open a page.
        if isinstance(url, str) and url.startswith(("https://", "http://")):
            return url
    return None
