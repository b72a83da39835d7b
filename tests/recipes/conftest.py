"""A study whose owner has much to hide, and its recipe."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from harness.runs.bundle import BundleDirectory
from tests.support.command import Done, run_harness
from tests.support.corpus import TinyText, tiny_model, tiny_text

OWNER, HOST, KEY = "ottilie", "node17-cluster", "5f0c9d2be1f34a5788aa01b2c3d4e5f60718293a"
SECRETS = [OWNER, HOST, KEY, "hunter2secret", "ottilie@example.org", "db.internal.example"]
"""What must not be found in a recipe, in no case of letters."""
ENVIRONMENT = {"USER": OWNER, "LOGNAME": OWNER, "HOSTNAME": HOST, "WANDB_API_KEY": KEY, "DATABASE_PASSWORD": "hunter2secret"}


@dataclass(frozen=True)
class Shared:
    """The owner's directory, in which the recipe `winner` has been exported, and what a colleague has."""

    home: Path
    text: TinyText
    model: Path

    @property
    def conf(self) -> Path:
        return self.home / "conf"

    @property
    def bundle(self) -> BundleDirectory:
        return BundleDirectory(self.conf / "experiment/best/winner")

    def harness(self, *arguments: str | Path, env: dict[str, str] | None = None) -> Done:
        environment = {**ENVIRONMENT, "HARNESS_RUNS": str(self.home / "runs"), **(env or {})}
        return run_harness(*arguments, cwd=self.home, env=environment, timeout_seconds=300)

    def colleague(self, place: Path) -> list[str]:
        """Hand the recipe and nothing else on, to somebody who has the same files elsewhere, whose overrides are returned."""
        shutil.copytree(self.bundle.path, place / "conf/experiment/best/winner")
        shutil.copy(self.conf / "experiment/best/winner.yaml", place / "conf/experiment/best/winner.yaml")
        (place / "mine").mkdir()
        shutil.copy(self.text.domain, place / "mine/code.jsonl")
        shutil.copy(self.text.general, place / "mine/prose.jsonl")
        shutil.copytree(self.model, place / "mine/base")
        return ["data.sources.domain.path=mine/code.jsonl", "data.sources.general.path=mine/prose.jsonl", "model.path=mine/base"]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Shared:
    home = tmp_path_factory.mktemp("home") / OWNER
    (home / "corpora").mkdir(parents=True)
    text = tiny_text(home / "corpora")
    model = tiny_model(home / "corpora" / "base-30k", text.tokenizer)
    place = Shared(home, text, model)
    question = {
        "base": [
            *text.pretrained(model),
            "tracking.entity=" + OWNER,
            f"tracking.tags=[{OWNER}]",
            f"data.cache_dir={session_cache}",
            "trainer.callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: x, strict: false, check_finite: false}",
        ],
        "objective": {"metric": "val/domain/loss"},
        "constraints": {"val/general/forgetting": {"max": 5.0}},
        "space": {
            "optim.lr": {"low": 1e-3, "high": 1e-1, "log": True},
            "schedule": {"choices": ["linear", "wsd"]},
            "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}},
        },
        "budget": {"trials": 5},
        "search": "random",
        "launcher": {"name": "local", "workers": 1},
    }
    question["base"].remove("tracking=none")
    (home / "sweeps").mkdir()
    (home / "sweeps/question.yaml").write_text(yaml.safe_dump(question))
    done = place.harness("sweep", "question")
    assert done.rc == 0, done
    _plant(home / "runs/question", home)
    done = place.harness("best", "question", "--export", "winner")
    assert done.rc == 0, done
    return place


def _plant(study: Path, home: Path) -> None:
    """What a study in a database of a cluster would have in its files."""
    frozen = yaml.safe_load((study / "sweep.yaml").read_text())
    frozen["storage"] = f"postgresql://{OWNER}:hunter2secret@db.internal.example/studies"
    (study / "sweep.yaml").write_text(yaml.safe_dump(frozen))
    winner = min(study.glob("trials/*/result.json"), key=lambda path: json.loads(path.read_text())["objective"])
    lost = next(path for path in sorted(study.glob("trials/*/result.json")) if path != winner)
    result = json.loads(lost.read_text())
    reason = f"OSError: {home}/scratch/x.ckpt on {HOST}: ask {OWNER}@example.org, WANDB_API_KEY={KEY}, see https://{HOST}.example/log"
    lost.write_text(json.dumps({**result, "state": "failed", "objective": None, "reason": reason}))
    trial = json.loads((lost.parent / "trial.json").read_text())
    (lost.parent / "trial.json").write_text(json.dumps({**trial, "worker": f"{HOST}-{os.getpid()}-0"}))
