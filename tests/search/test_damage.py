"""Files that are damaged, or that a stranger made: one message that names them, and the others stay readable."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config import documents
from harness.config.documents import DamagedError
from harness.config.errors import InputError
from harness.config.user_yaml import read_mapping
from harness.models.checkpoint_files import checkpoint_path
from harness.runs.directory import StudyDirectory
from harness.runs.files import read_json, read_yaml
from harness.runs.record import load_study
from harness.runs.trunks import TrunkInfo, TrunkStore
from harness.search.open_study import open_study
from harness.search.status import read_status
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep
from harness.training.checkpoints import AtomicCheckpointIO
from tests.search.conftest import MakeSweep
from tests.search.studies import Attempt, check_in_step, optuna_trials, run_all
from tests.support.command import call_harness

Damage = Callable[[Path], object]

DAMAGES: dict[str, Damage] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "null": lambda path: path.write_text("null\n"),
    "list": lambda path: path.write_text("[1]\n"),
    "no text": lambda path: path.write_bytes(b'{"a": "\xff"}'),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "deep blocks": lambda path: path.write_text("".join(f"{' ' * depth}a:\n" for depth in range(2000))),
    "aliases": lambda path: path.write_text(
        "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(12))
    ),
    "a knot": lambda path: path.write_text("a: &a\n  b: *a\n"),
    "a huge integer": lambda path: path.write_text('{"number": ' + "9" * 5000 + "}"),
    "NaN": lambda path: path.write_text('{"number": NaN}'),
    "half a surrogate pair": lambda path: path.write_text('{"number": 0, "given_up": "\\ud800"}'),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "no end": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
}


@pytest.fixture(scope="module")
def whole(loaded: Sweep, tmp_path_factory: pytest.TempPathFactory) -> StudyDirectory:
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HARNESS_RUNS", str(runs))
        directory = open_study(loaded)
        run_all(directory, lambda trial: 2.0 + trial.number)
    return StudyDirectory(directory.path.absolute())


@pytest.fixture
def study(whole: StudyDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyDirectory:
    """A copy of a study of four complete trials, of which the first is the best."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    return StudyDirectory(Path(shutil.copytree(whole.path, tmp_path / "runs" / whole.name)))


OF_JSON = [kind for kind in DAMAGES if kind not in ("deep blocks", "aliases", "a knot")]
OF_YAML = [kind for kind in DAMAGES if kind not in ("NaN", "a huge integer", "half a surrogate pair", "no text")]


@pytest.mark.parametrize("kind", OF_JSON)
@pytest.mark.parametrize("name", ["result.json", "trial.json"])
def test_a_damaged_trial_leaves_the_others(study: StudyDirectory, kind: str, name: str) -> None:
    path = study.trial(1).path / name
    DAMAGES[kind](path)
    record = load_study(study)
    assert [run.state for run in record.runs] == ["complete", "damaged", "complete", "complete"]
    assert str(path) in (record.runs[1].result.reason or "")
    assert record.best is not None
    assert record.best.number == 0


@pytest.mark.parametrize("name", ["result.json", "trial.json"])
def test_what_is_gone_is_damage_too(study: StudyDirectory, name: str, caplog: pytest.LogCaptureFixture) -> None:
    run = study.trial(1)
    run.metrics.append({"step": 1, "tokens": 10})
    (run.path / name).unlink()
    assert [found.state for found in load_study(study).runs] == ["complete", "damaged", "complete", "complete"]
    assert f"{name}: damaged: it is gone" in caplog.text


def test_views_show_what_is_damaged(study: StudyDirectory, tmp_path: Path) -> None:
    DAMAGES["cut"](study.trial(1).result)
    DAMAGES["a pipe"](study.trial(2).trial)
    study.trial(3).metrics.path.touch()
    DAMAGES["no end"](study.trial(3).metrics.path)
    for verb in ("status", "compare", "best"):
        done = call_harness(verb, study.name, cwd=tmp_path)
        assert done.rc == 0, done
        assert verb == "best" or all(f"{name}: damaged: " in done.stdout for name in ("result.json", "trial.json", "metrics.jsonl")), done
    shown = json.loads(call_harness("status", study.name, "--json", cwd=tmp_path).stdout)
    assert [trial["state"] for trial in shown["trials"]] == ["complete", "damaged", "damaged", "damaged"]


@pytest.mark.parametrize(("name", "kind"), [("result.json", "cut"), ("result.json", "a pipe"), ("trial.json", "list")])
def test_the_search_goes_on_beside_a_damaged_trial(study: StudyDirectory, make_sweep: MakeSweep, name: str, kind: str) -> None:
    DAMAGES[kind](study.trial(1).path / name)
    worker = Study(study, make_sweep(budget={"trials": 5}), "another")
    claim = worker.claim()
    assert isinstance(claim, Claim)
    assert claim.number == 4
    assert worker.prepare(claim)
    worker.settle(claim, Attempt(claim.run).complete(1.0))
    assert worker.claim() == "done"
    assert [run.state for run in load_study(study).runs] == ["complete", "damaged", "complete", "complete", "complete"]


def test_a_damaged_journal_can_be_made_anew(study: StudyDirectory, loaded: Sweep) -> None:
    before = optuna_trials_of(study)
    content = bytearray(study.journal.read_bytes())
    content[content.index(b"\n") + 3] = 0xFF
    study.journal.write_bytes(content)
    with pytest.raises(InputError, match=r"journal\.log: damaged: .*move it away"):
        Study(study, loaded, "another")
    study.journal.unlink()
    assert Study(study, loaded, "another").claim() == "done", "no trial is trained again"
    assert optuna_trials_of(study) == before
    assert [run.state for run in check_in_step(study, ended=True).runs] == ["complete"] * 4


def test_a_record_that_is_made_anew_knows_the_values_of_trials_under_way(study: StudyDirectory, make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 5})
    left = Study(study, sweep, "gone").claim()
    assert isinstance(left, Claim)
    before = optuna_trials_of(study)
    study.journal.unlink()
    worker = Study(study, sweep, "another")
    assert worker.claim() == left, "the one that was left"
    assert optuna_trials_of(study) == before
    worker.settle(left, Attempt(left.run).complete(1.0))
    check_in_step(study, ended=True)


@pytest.mark.parametrize("gone", [lambda study: shutil.rmtree(study.path), lambda study: study.path.rename(study.path.with_name("moved"))])
def test_a_study_that_is_moved_or_removed_is_not_made_anew(study: StudyDirectory, make_sweep: MakeSweep, gone: Damage) -> None:
    worker = Study(study, make_sweep(budget={"trials": 6}), "another")
    claim = worker.claim()
    assert isinstance(claim, Claim)
    assert worker.prepare(claim)
    attempt = Attempt(claim.run)
    gone(study)
    attempts: list[Callable[[], object]] = [
        attempt.complete,
        worker.claim,
        lambda: worker.settle(claim, 0),
        lambda: TrunkStore(study.trunks).store("1-a", study.path / "none", [], TrunkInfo(step=1, tokens=1, run="x")),
        lambda: AtomicCheckpointIO().save_checkpoint({}, checkpoint_path(claim.run.checkpoints, 1)),
    ]
    for attempt_to_write in attempts:
        with pytest.raises((InputError, FileNotFoundError), match=re.escape(str(study.path))):
            attempt_to_write()
    assert not study.path.exists()


def optuna_trials_of(study: StudyDirectory) -> list[object]:
    return [(trial.params, trial.values, trial.state, trial.distributions) for trial in optuna_trials(study)]


@pytest.mark.parametrize("kind", OF_YAML)
def test_a_damaged_study_is_one_message(study: StudyDirectory, kind: str) -> None:
    DAMAGES[kind](study.sweep)
    with pytest.raises(InputError, match=r"sweep\.yaml: damaged: "):
        read_status(study)


@pytest.mark.parametrize("kind", [*OF_JSON, "text"])
def test_damaged_metrics_are_left_out(study: StudyDirectory, kind: str) -> None:
    path = study.trial(1).metrics.path
    path.write_text('{"step": 1, "tokens": 10, "train/loss": 2.5}\n')
    (path.write_text('{"step": "x"}\n{"step": 3, "train/loss": "[/red]"}\n') if kind == "text" else DAMAGES[kind](path))
    runs = load_study(study).runs
    assert runs[1].state == ("damaged" if kind in ("a pipe", "a directory", "no end") else "complete")
    assert [row["step"] for row in runs[1].rows] == []


@pytest.mark.parametrize("kind", OF_JSON)
def test_json_is_read_within_bounds(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"a": 1}')
    DAMAGES[kind](path)
    begin = time.monotonic()
    with pytest.raises(DamagedError, match=r"^\S*result\.json: damaged: .*Restore it, or move it away\.$"):
        read_json(path)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("kind", OF_YAML)
@pytest.mark.parametrize("read", [read_yaml, lambda path: read_mapping(path, holds="keys")])
def test_yaml_is_read_within_bounds(tmp_path: Path, kind: str, read: Callable[[Path], object]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: {b: 1, c: 2")
    DAMAGES[kind](path)
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"config\.yaml: "):
        read(path)
    assert time.monotonic() - begin < 5


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("base: &base {lr: 1e-4, deep: [[[[1]]]]}\nother: *base\n")
    assert read_mapping(path, holds="keys")["other"] == {"lr": 1e-4, "deep": [[[[1]]]]}
    many = tmp_path / "many.yaml"
    many.write_text("a: [" + ", ".join(["{b: [1]}"] * 500) + "]\n")
    assert len(read_yaml(many)["a"]) == 500
    (tmp_path / "a.json").write_text('{"a": "\\ud83d\\ude00", "b": -1.5e-3, "c": 18446744073709551615}')
    assert documents.read_json(tmp_path / "a.json") == {"a": "😀", "b": -0.0015, "c": 2**64 - 1}
