"""What a configuration names that is not on this machine: asked for first, so that what is out of reach is said within seconds."""

from __future__ import annotations

from harness.config.schema import Config


def reach(config: Config) -> None:
    """Ask the hub for models, which stay there until they are loaded, and fetch data that the cache lacks.

    Before torch and transformers, whose import takes seconds, are imported. Raises InputError for what cannot be had.
    """
    from harness.data.remote import fetch_all
    from harness.models.hub import ask_for_models

    ask_for_models(config)
    fetch_all(config.data)
