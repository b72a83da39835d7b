"""What every verb prints and returns when all is well: exit codes, and exactly one JSON document where --json asks for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import Done, call_harness, run_harness
from tests.support.corpus import TinyText

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Place:
    """A working directory with a study of three trials called `question`."""

    path: Path
    sweep: Done
    """What the command that ran it said."""

    def harness(self, *arguments: str | Path) -> Done:
        """Within this process: what reads and writes, but does not train."""
        return call_harness(*arguments, cwd=self.path, env={"HARNESS_RUNS": str(self.path / "runs")})

    def process(self, *arguments: str | Path) -> Done:
        return run_harness(*arguments, cwd=self.path, env={"HARNESS_RUNS": str(self.path / "runs")})

    def json(self, *arguments: str | Path) -> Any:
        """The one JSON document that a verb prints."""
        done = self.harness(*arguments, "--json")
        assert done.rc == 0, done
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Place:
    path = tmp_path_factory.mktemp("place")
    question = {
        "base": tiny,
        "objective": {"metric": "val/domain/loss"},
        "constraints": {"val/general/forgetting": {"max": 5.0}},
        "space": {
            "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "schedule": {"choices": ["linear", "wsd"]},
            "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}},
        },
        "budget": {"trials": 3, "tokens": 10_000},
        "search": "random",
        "launcher": {"name": "local", "workers": 1},
    }
    (path / "sweeps").mkdir()
    (path / "sweeps/question.yaml").write_text(yaml.safe_dump(question))
    done = run_harness("sweep", "question", cwd=path, env={"HARNESS_RUNS": str(path / "runs")}, timeout_seconds=300)
    return Place(path, done)


def test_a_sweep_ends_well(place: Place) -> None:
    assert place.sweep.rc == 0, place.sweep
    assert "3 complete" in place.sweep.stderr
    assert place.sweep.stdout.count(": complete") == 3


def test_a_finished_sweep_has_nothing_to_do(place: Place) -> None:
    before = [path.stat().st_mtime_ns for path in sorted(place.path.glob("runs/question/trials/*/result.json"))]
    done = place.process("sweep", "question")
    assert done.rc == 0, done
    assert [path.stat().st_mtime_ns for path in sorted(place.path.glob("runs/question/trials/*/result.json"))] == before


def test_status(place: Place) -> None:
    document = place.json("status", "question")
    assert document["study"] == "question"
    assert document["workers"] == []
    assert [trial["number"] for trial in document["trials"]] == [0, 1, 2]
    for trial in document["trials"]:
        assert trial["state"] == "complete"
        assert trial["attempts"] == 1
        assert trial["seconds"] > 0
        assert trial["objective"] == trial["metrics"]["val/domain/loss"]
        assert trial["tokens"]["shared"] == 0
        assert 0 < trial["tokens"]["trained"] == trial["tokens"]["budgeted"]
        assert ("schedule.decay_fraction" in trial["params"]) == (trial["params"]["schedule"] == "wsd")
    assert document["budget"]["trials"] == {"limit": 3, "used": 3, "reserved": 0}
    tokens = document["budget"]["tokens"]
    assert tokens["limit"] == 10_000
    assert tokens["reserved"] == 0
    assert tokens["used"] == sum(trial["tokens"]["trained"] for trial in document["trials"])
    best = min(document["trials"], key=lambda trial: trial["objective"])
    assert {key: document["best"][key] for key in ("number", "params", "objective", "confirmed")} == {
        "number": best["number"],
        "params": best["params"],
        "objective": best["objective"],
        "confirmed": False,
    }


def test_status_that_watches_into_a_pipe_ends_with_what_it_would_show(place: Place) -> None:
    watched, shown = place.harness("status", "question", "--watch"), place.harness("status", "question")
    assert watched.rc == 0, watched
    assert "best so far" in shown.stdout
    assert watched.stdout.endswith(shown.stdout)


def test_a_study_is_found_by_its_directory_too(place: Place) -> None:
    assert place.json("status", place.path / "runs/question")["study"] == "question"


def test_status_for_people(place: Place) -> None:
    done = place.harness("status", "question")
    assert done.rc == 0, done
    assert "question" in done.stdout
    assert "best so far: trial" in done.stdout


def test_compare(place: Place) -> None:
    document = place.json("compare", "question")
    assert len(document["runs"]) == 3
    for run in document["runs"]:
        assert {"study", "number", "run", "params", "objective", "metrics", "seconds"} <= set(run)
        assert run["study"] == "question"
    assert set(document["importances"]) <= {"optim.lr", "schedule", "schedule.decay_fraction"}


def test_compare_writes_files(place: Place) -> None:
    done = place.harness("compare", "question", "question/0", "--csv", "out.csv", "--html", "out.html")
    assert done.rc == 0, done
    header, *rows = (place.path / "out.csv").read_text().splitlines()
    assert "val/domain/loss" in header
    assert len(rows) >= 3
    assert (place.path / "out.html").read_text().lstrip().lower().startswith("<!doctype html")


def test_best(place: Place) -> None:
    document = place.json("best", "question")
    assert {"study", "number", "params", "objective", "confirmed", "interval", "experiment"} <= set(document)
    assert document["study"] == "question"
    assert document["experiment"] is None
    assert place.harness("best", "question").stdout.startswith(f"question: trial {document['number']}, val/domain/loss")


def test_the_best_is_exported_and_run_again(place: Place) -> None:
    document = place.json("best", "question", "--export", "winner")
    assert document["experiment"] == "best/winner"
    assert (place.path / "conf/experiment/best/winner.yaml").is_file()
    shown = place.json("show", "experiment=best/winner")
    assert shown["config"]["optim"]["lr"] == document["params"]["optim.lr"]
    done = place.process("train", "experiment=best/winner")
    assert done.rc == 0, done
    result = json.loads((Path(done.stdout.strip()) / "result.json").read_text())
    # The same seed, the same data: the same bits.
    assert result["metrics"]["val/domain/loss"] == document["objective"]


def test_stop_of_a_study_at_rest(place: Place) -> None:
    done = place.harness("stop", "question")
    assert done.rc == 0, done
    assert "no worker is running" in done.stdout


def test_a_study_without_a_winner_is_a_failure_and_no_bad_input(place: Place) -> None:
    study = place.path / "runs/nothing"
    study.mkdir()
    frozen = yaml.safe_load((place.path / "runs/question/sweep.yaml").read_text())
    (study / "sweep.yaml").write_text(yaml.safe_dump({**frozen, "name": "nothing"}))
    done = place.harness("best", "nothing", "--json")
    assert (done.rc, done.stdout) == (1, ""), done
    assert "no complete trial" in done.stderr
    assert place.json("status", "nothing")["trials"] == []
    assert place.json("status", "nothing")["best"] is None


def test_show(place: Place, tiny: list[str]) -> None:
    document = place.json("show", *tiny, "optim.lr=1e-3")
    assert set(document["config"]) >= {"seed", "model", "tokenizer", "data", "objective", "adapter", "optim", "schedule", "trainer"}
    assert document["config"]["optim"]["lr"] == 1e-3


def test_data(place: Place, tiny: list[str]) -> None:
    first = place.json("data", *tiny)
    assert {"tokens", "rows", "efficiency", "tokens_kept", "documents", "documents_cut", "fingerprint"} <= set(first)
    assert 0 < first["efficiency"] <= 1
    assert first["tokens_kept"] == 1
    assert place.json("data", *tiny) == first


def test_train_prints_its_directory_and_nothing_else(place: Place, tiny: list[str]) -> None:
    done = place.process("train", *tiny)
    assert done.rc == 0, done
    assert len(done.stdout.splitlines()) == 1
    run = Path(done.stdout.strip())
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 4
    result = json.loads((run / "result.json").read_text())
    assert result["state"] == "complete"
    assert {"data", "tokenizer", "model"} <= set(result["fingerprints"])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 0
    assert rows[0]["val/domain/forgetting"] == 0
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4]
    # It is complete: resuming says so, and prints the directory again.
    again = place.harness("resume", run)
    assert (again.rc, again.stdout) == (0, done.stdout), again


def test_a_run_of_a_config_file(place: Place, tiny: list[str]) -> None:
    run = place.path / "copied"
    first = place.process("train", *tiny, "--dir", place.path / "original")
    assert first.rc == 0, first
    done = place.process("train", "--config", place.path / "original/config.yaml", "--dir", run)
    assert done.rc == 0, done
    losses = [json.loads((path / "result.json").read_text())["metrics"]["val/domain/loss"] for path in (place.path / "original", run)]
    assert losses[0] == losses[1]


def test_a_run_that_diverges_failed(place: Place, tiny_text: TinyText) -> None:
    done = place.process("train", *tiny_text.overrides, "optim.lr=1e30", "optim.gradient_clip_norm=null", "trainer.max_steps=20")
    assert done.rc == 1, done
    result = json.loads((Path(done.stdout.strip()) / "result.json").read_text())
    assert result["state"] == "failed"
    assert "Traceback" not in done.stderr
    assert result["reason"] in done.stderr


def test_help_and_version(place: Place) -> None:
    assert place.harness("--help").rc == 0
    assert place.harness("--version").stdout.startswith("harness ")
    assert "Usage" in place.harness("sweep", "--help").stdout
