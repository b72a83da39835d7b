"""Small sweeps over the tiny text, and studies of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.load import load
from harness.config.sweep_schema import SweepConfig
from harness.config.validate import to_plain, to_section
from harness.search.load_sweep import load_sweep
from harness.search.sweep import Sweep

SPACE: dict[str, Any] = {
    "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "schedule": {"choices": ["linear", "wsd"]},
    "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}},
}

WriteSweep = Callable[..., Path]


BOTH_STORAGES = pytest.mark.parametrize("storage", ["journal", "postgresql"], indirect=True)
"""For tests of what must hold in either."""


@pytest.fixture
def storage(request: pytest.FixtureRequest) -> str | None:
    """What a sweep says under `storage`: nothing, unless the test asks for BOTH_STORAGES."""
    address: str | None = request.getfixturevalue("postgresql") if getattr(request, "param", "journal") == "postgresql" else None
    return address


@pytest.fixture
def write_sweep(tmp_path: Path, tiny: list[str]) -> WriteSweep:
    """Writes a sweep file: random search over rate and schedule for four trials, but for what the keywords say. None leaves a key out.

    The common base leaves out what is searched and what a run does not need: its batch, share of replay, width; its context beside a longer
    model.max_context.
    """

    def write(name: str = "study", *, base: list[str] | None = None, **document: Any) -> Path:
        spare = {"trainer.batch_tokens", "data.replay_share", "model.hidden_size", "model.heads"}
        if any(text.startswith("model.max_context=") for text in base or ()):
            spare.add("data.context_length")
        searched = spare & {*(document.get("space") or ())}
        document = {
            "base": [*(text for text in tiny if text.partition("=")[0] not in searched), *(base or [])],
            "objective": {"metric": "val/domain/loss"},
            "space": SPACE,
            "search": "random",
            "budget": {"trials": 4},
            "launcher": {"name": "local", "workers": 1},
            **document,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in document.items() if value is not None}, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Sweep:
    """The small sweep, composed once for the whole test run."""
    path = tmp_path_factory.mktemp("sweep") / "study.yaml"
    document = {"base": tiny, "objective": {"metric": "val/domain/loss"}, "space": SPACE, "search": "random", "budget": {"trials": 4}}
    path.write_text(yaml.safe_dump(document))
    with contextlib.chdir(path.parent):
        sweep = load_sweep(str(path), [])
    assert sweep.largest_trial_tokens
    return sweep


load_once = functools.cache(lambda overrides: load(list(overrides)))


@pytest.fixture
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where composing the base would take most of the time of tests, and it is always the same."""
    monkeypatch.setattr("harness.search.sweep.load", lambda overrides: load_once(tuple(overrides)))


MakeSweep = Callable[..., Sweep]


@pytest.fixture
def make_sweep(loaded: Sweep, storage: str | None) -> MakeSweep:
    """The small sweep with other limits, constraints, search or devices; what was composed is shared."""

    def make(*, name: str = "study", storage: str | None = storage, devices: int = 1, **sections: dict[str, Any]) -> Sweep:
        plain = to_plain(loaded.config)
        changed = {key: {**plain[key], **values} for key, values in sections.items()}
        config = to_section(SweepConfig, {**plain, **changed, "storage": storage})
        sweep = Sweep(name, config)
        vars(sweep).update({key: value for key, value in vars(loaded).items() if key not in ("name", "config")})
        trainer = dataclasses.replace(loaded.base.config.trainer, devices=devices)
        base = dataclasses.replace(loaded.base, config=dataclasses.replace(loaded.base.config, trainer=trainer))
        vars(sweep)["base"] = base  # its trials compute as before
        return sweep

    return make
