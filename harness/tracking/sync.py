"""Bringing ended runs to W&B from their files, each once.

For every run one log is made of what its attempts left (`merged_log`), in a copy, with the rows that W&B does not have yet; the client's
own `wandb sync` uploads it; and the run counts as synced when the server has every row, once. What was half uploaded when a sync was
killed is therefore not uploaded again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml
from harness.runs.locks import hold
from harness.runs.metrics import Row
from harness.runs.result import Result, read_result
from harness.runs.trial import read_trial
from harness.tracking.identity import Identity, identity_of_run, tracking_of_run
from harness.tracking.merged_log import Whole, logged_steps, merged_log, place_of
from harness.tracking.pieces import Piece, pieces_of
from harness.tracking.server import RemoteRun, Server
from harness.tracking.summary import Summary, objective_of, summary_of
from harness.tracking.sync_marks import is_synced, mark_synced
from harness.tracking.upload import upload, what_it_said
from harness.tracking.wandb_run import TrackingError, WandbTarget

BATCH_RUNS = 100
"""Copies that are on the disk, and uploaded, at a time."""
STALL_SECONDS = 300.0
"""The client repeats what is refused; after so long without any arrival it is given up."""
SETTLE_SECONDS = 30.0
"""How long a server may take until it shows what it has accepted."""

Outcome = Literal["synced", "failed"]


@dataclass(frozen=True)
class Synced:
    """What came of one run."""

    run: RunDirectory
    outcome: Outcome
    rows: int = 0
    """Uploaded now."""
    url: str | None = None
    reason: str | None = None
    """Why it failed; of a synced run, what W&B lacks of it for good."""


@dataclass(frozen=True)
class _Ended:
    """A run that is to be brought up to date, as its files are."""

    run: RunDirectory
    pieces: list[Piece]
    identity: Identity
    target: WandbTarget
    result: Result = field(compare=False)

    @cached_property
    def rows(self) -> list[Row]:
        return self.run.metrics.rows()

    @cached_property
    def steps(self) -> set[int]:
        return {row["step"] for row in self.rows} | logged_steps(self.pieces)

    @property
    def summary(self) -> Summary:
        return summary_of(self.result, self.rows, objective_of(self.run), trial=read_trial(self.run))

    def whole(self, entity: str, project: str) -> Whole:
        return Whole(
            identity=replace(self.identity, tags=(*self.identity.tags, *self.target.tags)),
            entity=entity,
            project=project,
            config=read_yaml(self.run.config),
            started=self.run.config.stat().st_mtime,
            rows=self.rows,
            summary=self.summary,
            exit_code=int(self.result.state == "failed"),
        )


def sync_runs(
    runs: Sequence[RunDirectory], *, done: Callable[[Synced], None], stall_seconds: float = STALL_SECONDS, batch_runs: int = BATCH_RUNS
) -> list[Synced]:
    """Bring ended runs to W&B. `done` is told of each as it is decided.

    Raises TrackingError where the server cannot be reached or does not let us in: nothing was done.
    """
    server = Server()
    outcomes = []
    for start in range(0, len(runs), batch_runs):
        for outcome in _sync_batch(server, runs[start : start + batch_runs], stall_seconds):
            done(outcome)
            outcomes.append(outcome)
    return outcomes


def _sync_batch(server: Server, runs: Sequence[RunDirectory], stall_seconds: float) -> Iterator[Synced]:
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="harness-sync-") as folder:
        batch: list[_Ended] = []
        for run in runs:
            lock = hold(run.path / "wandb" / ".sync.lock")
            if lock is None:
                yield Synced(run, "failed", reason="another harness sync is at it")
                continue
            stack.callback(lock.release)
            try:
                batch.append(_read(run))
            except (OSError, ValueError, KeyError, TypeError) as error:
                yield Synced(run, "failed", reason=f"its files cannot be read: {type(error).__name__}: {error}")
        by_project: dict[tuple[str, str], list[_Ended]] = {}
        for ended in batch:
            by_project.setdefault(_place(ended, server), []).append(ended)
        for (entity, project), members in by_project.items():
            working_directory = Path(tempfile.mkdtemp(dir=folder))
            try:
                yield from _sync_project(server, entity, project, members, working_directory, stall_seconds)
            except TrackingError as error:
                for ended in members:
                    if not is_synced(ended.run):
                        yield Synced(ended.run, "failed", reason=str(error))


def _read(run: RunDirectory) -> _Ended:
    identity = identity_of_run(run)
    pieces = pieces_of(run.path, identity.id)
    return _Ended(run, pieces, identity, WandbTarget.of(tracking_of_run(run)), read_result(run))


def _place(ended: _Ended, server: Server) -> tuple[str, str]:
    """Entity and project: as the run itself was opened with, whatever the environment says by now."""
    entity, project = place_of(ended.pieces)
    return entity or ended.target.entity or server.default_entity, project or ended.target.project


def _sync_project(server: Server, entity: str, project: str, members: list[_Ended], folder: Path, stall_seconds: float) -> Iterator[Synced]:
    expected = {ended.identity.id: ended.steps for ended in members}
    before = server.runs(entity, project, expected)
    copies: dict[str, Piece] = {}
    reasons: dict[str, str] = {}
    for ended in members:
        remote = before.get(ended.identity.id)
        if remote is not None and _is_up_to_date(remote, ended):
            continue
        try:
            copies[ended.identity.id] = _copy(ended, folder, entity, project, after_step=remote.last_step if remote else -1)
        except (OSError, ValueError) as error:
            reasons[ended.identity.id] = str(error)
    arrived = set()
    if copies:
        for copy in upload(list(copies.values()), folder, stall_seconds=stall_seconds):
            arrived.add(copy.id)
    uploaded = [ended for ended in members if ended.identity.id in arrived]
    after = {**before, **_settled(server, entity, project, uploaded, before)}
    for ended in members:
        key = ended.identity.id
        if key in reasons or (key in copies and key not in arrived):
            said = reasons.get(key) or what_it_said(folder, key) or "W&B did not take it"
            yield Synced(ended.run, "failed", reason=said)
            continue
        yield _verified(ended, before.get(key), after.get(key))


def _settled(server: Server, entity: str, project: str, uploaded: list[_Ended], before: dict[str, RemoteRun]) -> dict[str, RemoteRun]:
    """What the server has of the uploaded runs, when it shows all of it or after a while."""
    deadline, pause = time.monotonic() + SETTLE_SECONDS, 0.5
    found: dict[str, RemoteRun] = {}
    while uploaded:
        found |= server.runs(entity, project, {ended.identity.id: ended.steps for ended in uploaded})
        uploaded = [
            ended
            for ended in uploaded
            if _verified(ended, before.get(ended.identity.id), found.get(ended.identity.id), dry=True).outcome != "synced"
        ]
        if not uploaded or time.monotonic() > deadline:
            break
        time.sleep(pause)
        pause *= 2
    return found


def _steps(remote: RemoteRun, ended: _Ended) -> list[int]:
    return remote.steps if remote.steps is not None else sorted(ended.steps) if remote.rows else []


def _is_up_to_date(remote: RemoteRun, ended: _Ended) -> bool:
    same_end = all(remote.summary.get(key) == value for key, value in ended.summary.items())
    return same_end and max(ended.steps, default=-1) <= remote.last_step and remote.state in ("finished", "failed")


def _verified(ended: _Ended, before: RemoteRun | None, after: RemoteRun | None, *, dry: bool = False) -> Synced:
    """Whether the server has every row that was to go there, once; marks the run as synced, unless dry."""
    if after is None:
        return Synced(ended.run, "failed", reason="W&B says that it took it, but does not show it")
    had = before.last_step if before else -1
    steps = _steps(after, ended)
    missing = sorted(ended.steps - set(steps))
    twice = len(steps) - len(set(steps))
    if twice or any(step > had for step in missing):
        reason = f"W&B shows {after.rows} rows up to step {after.last_step}; it should be {len(ended.steps)} up to {max(ended.steps)}"
        return Synced(ended.run, "failed", url=after.url, reason=reason)
    note = f"{len(missing)} rows up to step {missing[-1]} were lost when they were logged online" if missing else None
    if not dry:
        mark_synced(ended.run, ended.result, url=after.url, rows=after.rows, last_step=after.last_step)
        for piece in ended.pieces:
            piece.marker.touch()
    return Synced(ended.run, "synced", rows=after.rows - (before.rows if before else 0), url=after.url, reason=note)


def _copy(ended: _Ended, folder: Path, entity: str, project: str, *, after_step: int) -> Piece:
    """A directory as the client leaves one, with one log of all that is to be uploaded."""
    path = folder / f"offline-run-20000101_000000-{ended.identity.id}"
    copy = Piece(path, ended.identity.id, offline=True)
    copy.files.mkdir(parents=True)
    for piece in ended.pieces:
        for file in piece.files.rglob("*"):
            target = copy.files / file.relative_to(piece.files)
            if file.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.symlink_to(file.resolve())
    copy.log.write_bytes(merged_log(ended.pieces, ended.whole(entity, project), after_step=after_step))
    return copy
