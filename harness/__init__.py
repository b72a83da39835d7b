"""Find, trust and reuse the hyperparameters of continued pretraining and fine-tuning of language models.

    import harness as h

    cfg = h.load("experiment=cpt", "optim.lr=3e-4", …)
    result = h.train(cfg)
    study = h.sweep("sweeps/cpt.yaml", workers=4)
    study.best.config

CONTRIBUTING.md draws the floors of its folders: imports only go down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import (
        Best,
        DataSet,
        Run,
        Study,
        Trial,
        UnfinishedError,
        data_set,
        evaluate,
        load,
        resume,
        run,
        study,
        sweep,
        synth,
        train,
    )
    from harness.config.errors import InputError
    from harness.config.schema import Config

__version__ = "0.1.0"
__all__ = [
    "Best",
    "Config",
    "DataSet",
    "InputError",
    "Run",
    "Study",
    "Trial",
    "UnfinishedError",
    "data_set",
    "evaluate",
    "load",
    "resume",
    "run",
    "study",
    "sweep",
    "synth",
    "train",
]


def __getattr__(name: str) -> Any:
    """The Python API is loaded when it is first asked for: the command line imports this package as well, and has no time for it."""
    from importlib import import_module

    homes = {"Config": "harness.config.schema", "InputError": "harness.config.errors"}
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(homes.get(name, "harness.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
