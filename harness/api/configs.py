"""`harness.load`: a configuration, composed and validated."""

from __future__ import annotations

from pathlib import Path

from harness.config.errors import InputError
from harness.config.schema import Config

ARGUMENTS = "the arguments of load"
"""What messages call the place of its overrides."""


def load(*overrides: str, config: Config | Path | str | None = None) -> Config:
    """Compose and validate a configuration, as `harness show` does.

    Args:
        overrides: Hydra's overrides: `"experiment=cpt"`, `"schedule=wsd"`, `"optim.lr=3e-4"`.
        config: A configuration, or the path of a run's config.yaml, to begin with instead of the defaults; overrides can give it other
            values then, but choose no groups.

    Returns:
        The configuration, every key of docs/config.md an attribute: `cfg.optim.lr`.

    Raises:
        InputError: For an unknown key, a value that is not valid, or values that do not go together.
    """
    from harness.config.load import load as compose
    from harness.config.load import load_given_file, with_overrides
    from harness.config.validate import to_plain

    for override in overrides:
        if not isinstance(override, str):
            raise InputError(f"load({override!r}): expected overrides as separate strings, e.g. load('experiment=cpt', 'optim.lr=3e-4')")
    if config is None:
        return compose(list(overrides), given_by=ARGUMENTS).config
    if isinstance(config, Config):
        return with_overrides(to_plain(config), list(overrides), origin="config", given_by=ARGUMENTS)
    return load_given_file(Path(config), list(overrides), given_by=ARGUMENTS)
