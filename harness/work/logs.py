"""Logs of attempts and workers: a trial's own log, and those of the workers that claimed it."""

from __future__ import annotations

import time
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.errors import InputError, wrong_value
from harness.launch.slurm.submission import slurm_folder
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.trial import ClaimedBy, read_trial

POLL_SECONDS = 0.5
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Log:
    """One file."""

    path: Path
    title: str


def study_logs(study: StudyDirectory) -> list[Log]:
    """Of all its workers."""
    local = [Log(study.workers / "log.txt", "workers on this machine")]
    jobs = [Log(path, f"job {path.stem}") for path in _by_age(slurm_folder(study))]
    return [log for log in [*local, *jobs] if log.path.is_file()]


def trial_logs(study: StudyDirectory, number: int) -> list[Log]:
    """Of a trial: of its attempts, then of the workers that claimed it. Raises InputError for an unknown trial."""
    run = study.trial(number)
    trial = read_trial(run)
    if trial is None:
        count = sum(1 for _ in study.trials())
        raise wrong_value("TRIAL", number, f"{study.name} has trials 0 to {count - 1}" if count else f"{study.name} has no trials yet")
    logs = [Log(run.log, f"attempts on trial {number}")]
    by_file: dict[Path, list[ClaimedBy]] = {}
    for claim in trial.claims:
        name = "log.txt" if claim.place.job is None else f"slurm/{claim.place.job}.log"
        by_file.setdefault(study.workers / name, []).append(claim)
    logs += [Log(path, _worker_title(claims)) for path, claims in by_file.items()]
    return [log for log in logs if log.path.is_file()]  # to open a pipe would wait for its writer


def run_logs(run: RunDirectory) -> list[Log]:
    """Of a single run: of its jobs. Raises InputError for one that was not submitted: its output went to the terminal."""
    jobs = [Log(path, f"job {path.stem}") for path in _by_age(slurm_folder(run))]
    if not jobs:
        raise InputError(f"{run.path}: no job was submitted for it, so what it said went to the terminal that it ran in")
    return jobs


def _by_age(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.log") if path.is_file()), key=lambda path: path.stat().st_mtime)


def _worker_title(claims: Sequence[ClaimedBy]) -> str:
    place = claims[0].place
    if place.job is None:
        return "its workers on " + ", ".join(dict.fromkeys(claim.place.node for claim in claims))
    lives = ", ".join(f"{claim.place.node} (restart {claim.place.restart})" for claim in claims)
    return f"its worker, job {place.job}, on {lives}"


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a file, however long that is; all of it for 0."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        start = size if count else 0
        tail = b""
        while start > 0 and tail.count(b"\n") <= count:
            length = min(BLOCK_BYTES, start)
            start -= length
            stream.seek(start)
            tail = stream.read(length) + tail
        if not count:
            stream.seek(0)
            tail = stream.read()
    return tail.decode(errors="replace").splitlines()[-count:]


def follow_logs(logs: Sequence[Log]) -> Iterator[tuple[Log, str]]:
    """What is added to the files from now on, without end."""
    read = {log: log.path.stat().st_size for log in logs}
    # A piece may end in the middle of a character.
    decoders = {log: getincrementaldecoder("utf-8")(errors="replace") for log in logs}
    while True:
        for log in logs:
            with log.path.open("rb") as stream:
                stream.seek(min(read[log], log.path.stat().st_size))
                added = decoders[log].decode(stream.read())
                read[log] = stream.tell()
            if added:
                yield log, added
        time.sleep(POLL_SECONDS)
