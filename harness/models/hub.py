"""Whether the Hugging Face hub answers, asked once: its library retries every file for a minute before it takes what its cache has."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

log = logging.getLogger("harness")

CONNECT_SECONDS = 4.0
"""How long the hub may take to answer."""


def use_cache_without_network(path: str) -> None:
    """For a hub name: where the hub does not answer, all is taken from its cache from now on, as with HF_HUB_OFFLINE=1."""
    from huggingface_hub import constants

    if not Path(path).is_dir() and not constants.HF_HUB_OFFLINE and not _answers(path):
        log.warning("the Hugging Face hub does not answer; only what is in its cache on this machine is used")
        constants.HF_HUB_OFFLINE = True


@cache
def _answers(name: str) -> bool:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(name, timeout=CONNECT_SECONDS)
    except HfHubHTTPError:
        return True  # that there is no such model, or no access to it, is for the loader to say
    except Exception:  # noqa: BLE001 - what a network can do to an HTTP library
        return False
    return True
