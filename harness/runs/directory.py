"""Where things are: the directory of a run, the directory of a study, and how a user's word for one becomes a path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.config.errors import InputError, did_you_mean
from harness.config.locations import in_home
from harness.runs.generations import GenerationsFile
from harness.runs.locks import is_held
from harness.runs.metrics import MetricsFile
from harness.runs.report_split import DocumentsFile


def runs_root() -> Path:
    """The directory of all runs and studies: $HARNESS_RUNS, else runs/ in the working directory."""
    return in_home(os.environ.get("HARNESS_RUNS") or "runs")


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk; a trial of a study is the same directory inside the study's."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration; `harness train --config FILE` runs it again."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> MetricsFile:
        return MetricsFile(self.path / "metrics.jsonl")

    @property
    def generations(self) -> GenerationsFile:
        return GenerationsFile(self.path / "generations.jsonl")

    @property
    def documents(self) -> DocumentsFile:
        """Only where documents are kept for the report (data.report_share)."""
        return DocumentsFile(self.path / "documents.jsonl")

    @property
    def result(self) -> Path:
        """State, metrics, tokens, versions (see `harness.runs.result`)."""
        return self.path / "result.json"

    @property
    def trial(self) -> Path:
        """Only for a trial: its number, parameters and who works on it (see `harness.runs.trial`)."""
        return self.path / "trial.json"

    @property
    def related_trials(self) -> Path:
        """Only for a trial: the keys in which related trials differ, those that may share its first steps."""
        return self.path / "relatives.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def wandb_opened(self) -> Path:
        """Only where it is tracked: its run in W&B, as the first attempt opened it (see `harness.tracking.wandb_directory`)."""
        return self.path / "wandb" / "run.json"

    @property
    def wandb_synced(self) -> Path:
        """What `harness sync` has uploaded, and where."""
        return self.path / "wandb" / "synced.json"

    @property
    def attempt_lock(self) -> Path:
        """Held by the process that works on this run: at most one, and gone with it."""
        return self.path / ".attempt.lock"

    @property
    def study(self) -> StudyDirectory | None:
        """The study that this run is a trial of; None for a single run."""
        return StudyDirectory(self.path.parent.parent) if self.trial.exists() else None

    @property
    def name(self) -> str:
        """How users call it: its directory's name, or study/number for a trial."""
        return f"{self.study.name}/{self.path.name}" if self.study else self.path.name

    def is_attempted(self) -> bool:
        """Whether a living process works on this run."""
        return is_held(self.attempt_lock)


@dataclass(frozen=True)
class StudyDirectory:
    """One study on disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def sweep(self) -> Path:
        """The sweep as resolved and frozen at launch."""
        return self.path / "sweep.yaml"

    @property
    def journal(self) -> Path:
        """Optuna's journal, unless the study's storage is a database."""
        return self.path / "journal.log"

    @property
    def wandb_off(self) -> Path:
        """Exists where W&B lacks something of the trials that it was to have (see `harness.tracking.off_note`)."""
        return self.path / "wandb" / "off.json"

    @property
    def lock(self) -> Path:
        """Held while a worker claims or settles a trial."""
        return self.path / ".study.lock"

    @property
    def stop_request(self) -> Path:
        """Exists while the workers are asked to stop."""
        return self.path / "stop"

    @property
    def exhausted(self) -> Path:
        """What a worker of a trunk search left that found nothing more to start: after how many trials, under which limits."""
        return self.path / ".exhausted.json"

    def leave_request(self, worker: str) -> Path:
        """Exists while one worker is asked to leave; the others stay."""
        return self.workers / f"{worker}.leave"

    @property
    def trunks(self) -> Path:
        """States of training that trials have in common (see `harness.runs.trunks`)."""
        return self.path / "trunks"

    @property
    def workers(self) -> Path:
        return self.path / "workers"

    def worker_lock(self, worker: str) -> Path:
        """Held by a living worker."""
        return self.workers / f"{worker}.lock"

    def worker_file(self, worker: str) -> Path:
        """Who the worker is, and where it runs."""
        return self.workers / f"{worker}.json"

    def fault_note(self, worker: str) -> Path:
        """Exists where a worker has left since a disk failed it: its own file by another name, which a full disk can still give it."""
        return self.workers / f"{worker}.fault"

    def trial(self, number: int) -> RunDirectory:
        return RunDirectory(self.path / "trials" / f"{number:04d}")

    def trials(self) -> Iterator[RunDirectory]:
        """The trials, in the order of their numbers."""
        folder = self.path / "trials"
        if folder.is_dir():
            for path in sorted((entry for entry in folder.iterdir() if entry.name.isdigit()), key=lambda entry: int(entry.name)):
                yield RunDirectory(path)


def new_run_directory(label: str) -> RunDirectory:
    """A directory for a new single run under the runs root, named by the time and what it runs; made here, so that it is ours."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    slug = re.sub(r"[^\w.-]+", "-", label).strip("-") or "run"
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        path = runs_root() / f"{stamp}-{slug}{suffix}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"cannot write to {path.parent}: {error.strerror}. $HARNESS_RUNS names another place.") from error
        return RunDirectory(path)
    raise InputError(f"{runs_root()}: too many runs named {stamp}-{slug}")


def _candidates() -> list[Path]:
    root = runs_root()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def is_study(path: Path) -> bool:
    return (path / "sweep.yaml").is_file()


def is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() and not is_study(path)


def is_synth(path: Path) -> bool:
    """Whether a data set is made there, by `harness synth`."""
    return (path / "recipe.yaml").is_file() and not is_study(path) and not is_run(path)


def synth_called(word: str) -> Path | None:
    """The data set of this name under the runs root, or of this path; None if there is none. Raises InputError for a name that is both."""
    return _the_one(word, [path for path in _places(word) if is_synth(path)])


def study_called(word: str) -> StudyDirectory | None:
    """The study of this name under the runs root, or of this path; None if there is none. Raises InputError for a name that is both."""
    found = _the_one(word, [path for path in _places(word) if is_study(path)])
    return StudyDirectory(found) if found else None


def run_called(word: str) -> RunDirectory | None:
    """The run of this name under the runs root, `STUDY/NUMBER`, or of this path; None if there is none. Raises InputError for a name that
    is both."""
    study, _, number = word.rpartition("/")
    paths = _places(word)
    if study and number.isdigit():
        paths += [base / "trials" / f"{int(number):04d}" for base in _places(study)]
    found = _the_one(word, [path for path in paths if is_run(path)])
    return RunDirectory(found) if found else None


def _places(word: str) -> list[Path]:
    """What a user's word may mean: a name under the runs root or a path; a path alone where it begins like one."""
    path = in_home(word)
    is_path = path.is_absolute() or word.split("/")[0] in (".", "..")
    return [path] if is_path else [runs_root() / word, path]


def _the_one(word: str, paths: list[Path]) -> Path | None:
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    if len(found) > 1:
        named, other = list(found.values())[:2]
        raise InputError(f"{word!r} is both {named} and {other if other.is_absolute() else f'./{other}'}: say which of the two")
    return next(iter(found.values()), None)


def find_study(word: str) -> StudyDirectory:
    """As `study_called`; raises InputError for one that does not exist, too."""
    found = study_called(word)
    if found is not None:
        return found
    names = [path.name for path in _candidates() if is_study(path)]
    raise InputError(
        f"unknown study {word!r}: no {runs_root() / word / 'sweep.yaml'}."
        + did_you_mean(word, names)
        + (f" Studies here: {', '.join(names)}." if names else f" There is no study under {runs_root()}/.")
    )


def find_run_or_study(word: str) -> RunDirectory | StudyDirectory:
    """The run or the study of this word, as of `run_called` and `study_called`. Raises InputError where it means none, or one of each."""
    run, study = run_called(word), study_called(word)
    if run is not None and study is not None:
        raise InputError(f"{word!r} is both the run {run.path} and the study {study.path}: say which of the two, by its path")
    return run or study or find_run(word)


def find_run(word: str) -> RunDirectory:
    """As `run_called`; raises InputError for one that does not exist, too."""
    found = run_called(word)
    if found is not None:
        return found
    above, _, number = word.rpartition("/")
    study = study_called(word) or (study_called(above) if above and number.isdigit() else None)
    if study is not None:
        numbers = [int(trial.path.name) for trial in study.trials()]
        there = f"its trials are {numbers[0]} to {numbers[-1]}, e.g. {study.path.name}/{numbers[0]}" if numbers else "it has no trial yet"
        raise InputError(f"{word!r} names no run of the study {study.path}: {there}")
    names = [path.name for path in _candidates() if is_run(path) or is_study(path)]
    raise InputError(
        f"unknown run {word!r}: no {runs_root() / word / 'config.yaml'}."
        + did_you_mean(word, names)
        + " A run is a directory, a name under the runs directory, or STUDY/NUMBER for a trial; `harness ls` lists what there is."
    )
