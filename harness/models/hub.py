"""Models by their name on the Hugging Face hub: whether it answers, asked once, and what its cache on this machine holds.

The hub's library retries every file for a minute before it takes what its cache has.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.config.errors import in_short, wrong_value
from harness.config.schema import Config
from harness.runs.deadline import answer_within

log = logging.getLogger("harness")

ANSWER_SECONDS = 4.0
"""How long the hub may take to answer."""
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
"""Of a repository, what transformers loads; the first kind that there is."""
BESIDE_WEIGHTS = ("*.json", "*.jinja", "*.txt", "*.model", "*.py")


def ask_for_models(config: Config) -> None:
    """Ask the hub for what a configuration names there, before anything that takes seconds is imported.

    Raises InputError, see `use_cache_without_network`.
    """
    for key, path in _named(config).items():
        use_cache_without_network(path, key=key)


def use_cache_without_network(path: str, *, key: str) -> None:
    """For a hub name, given in the configuration's `key`: where the hub does not answer, all is taken from its cache from now on, as with
    HF_HUB_OFFLINE=1.

    Raises InputError for a name that is neither there nor in the cache.
    """
    if Path(path).is_dir():
        return
    from huggingface_hub import constants

    hub = _Hub(answers=False, why_not="HF_HUB_OFFLINE=1") if constants.HF_HUB_OFFLINE else _asked(path)
    if hub.why_not is not None and not _is_cached(path):
        raise wrong_value(
            key,
            path,
            f"no such directory, not in the cache of the Hugging Face hub on this machine, and not to be had from the hub ({hub.why_not}); "
            f"valid: a model's directory, or a name that `hf download {path}` has fetched where there is a network",
        )
    if not hub.answers and not constants.HF_HUB_OFFLINE:
        log.warning("the Hugging Face hub does not answer; only what is in its cache on this machine is used")
        constants.HF_HUB_OFFLINE = True


def fetch_models(config: Config) -> None:
    """Have the hub's cache hold all that a configuration's runs load, for machines without a network. Raises InputError."""
    elsewhere = {key: path for key, path in _named(config).items() if not Path(path).is_dir()}
    if not elsewhere:
        return
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        return
    for key, path in elsewhere.items():
        try:
            files = [name for name in HfApi().list_repo_files(path) if "/" not in name]
            weights = next((kind for kind in WEIGHTS if any(Path(name).match(kind) for name in files)), None)
            kinds = [*([weights] if weights and key != "tokenizer.path" else []), *BESIDE_WEIGHTS]
            snapshot_download(path, allow_patterns=[name for name in files if any(Path(name).match(kind) for kind in kinds)])
        except Exception as error:
            raise wrong_value(key, path, f"cannot be fetched from the hub: {in_short(error)}") from error


def _named(config: Config) -> dict[str, str]:
    """What may be hub names, by key."""
    paths = {"model.path": config.model.path, "tokenizer.path": config.tokenizer.path, "objective.teacher": config.objective.teacher}
    return {key: path for key, path in paths.items() if path is not None}


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(
            isinstance(try_to_load_from_cache(name, file), str) for file in ("config.json", "tokenizer.json", "tokenizer_config.json")
        )
    except HFValidationError:  # no name that the hub could have
        return False


class _Hub(NamedTuple):
    """What the hub says to a name."""

    answers: bool
    why_not: str | None = None
    """Why it does not give this model, in a line; None where it does."""


@cache
def _asked(name: str) -> _Hub:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        answer_within(ANSWER_SECONDS, lambda: HfApi().model_info(name, timeout=ANSWER_SECONDS))
    except RepositoryNotFoundError:
        return _Hub(answers=True, why_not="it has no such model, or gives you no access to it")
    except HfHubHTTPError:
        return _Hub(answers=True)  # what is wrong with it is for the loader to say
    except Exception as error:  # noqa: BLE001 - what a network can do to an HTTP library
        return _Hub(answers=False, why_not=in_short(error))
    return _Hub(answers=True)
