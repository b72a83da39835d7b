"""Uploading ended runs to W&B, each once, from their own files.

metrics.jsonl and result.json are the truth. The client opens a run by its id, and logs the rows that W&B does not have yet, the summary and
the state. A run is synced when the server shows every row, once. After a sync that was killed, the next one goes on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from yaml import YAMLError

from harness.config.errors import InputError
from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml, scratch_directory
from harness.runs.locks import hold
from harness.runs.metrics import Row
from harness.runs.result import Result, read_result
from harness.runs.trial import read_trial
from harness.tracking.identity import Identity, identity_of_run, tracking_of_run
from harness.tracking.model_artifact import logs_own_model
from harness.tracking.run_summary import Summary, objective_of, summary_of
from harness.tracking.server import RemoteRun, Server
from harness.tracking.tracked_run import TrackedRun
from harness.tracking.wandb_directory import mark_synced, read_opened, refuse_links
from harness.tracking.wandb_run import TrackingError, WandbTarget, client, kill_client, start_run

BATCH_RUNS = 100
"""Looked up on the server together."""
PARALLEL_UPLOADS = 8
"""So many failures in a row are no matter of single runs: the rest of the batch is not tried."""
UPLOAD_SECONDS = 300.0
"""For opening a run, and again for closing it: the client repeats what is refused, and is given up after so long."""
SETTLE_SECONDS = 30.0
"""How long a server may take until it shows what it has accepted."""


@dataclass(frozen=True)
class Synced:
    """The outcome of one run."""

    run: RunDirectory
    outcome: Literal["synced", "failed"]
    rows: int = 0
    """Uploaded now."""
    url: str | None = None
    reason: str | None = None
    """Why it failed; of a synced run, which rows are lost in W&B."""


@dataclass(frozen=True)
class _EndedRun:
    """A run to upload, read from its files."""

    run: RunDirectory
    identity: Identity
    target: WandbTarget
    config: dict[str, Any]
    result: Result
    rows: list[Row]
    summary: Summary

    @classmethod
    def read(cls, run: RunDirectory) -> _EndedRun:
        """All of it at once: of a file that is damaged, before anything is uploaded. Raises InputError and OSError."""
        refuse_links(run)
        target = WandbTarget.of(tracking_of_run(run)).as_opened(read_opened(run))
        result, rows = read_result(run), run.metrics.rows()
        summary = summary_of(result, rows, objective_of(run), trial=read_trial(run))
        return cls(run, identity_of_run(run), target.from_elsewhere(), read_yaml(run.config), result, rows, summary)

    @property
    def id(self) -> str:
        return self.identity.id

    @cached_property
    def steps(self) -> set[int]:
        return {row["step"] for row in self.rows}

    @property
    def last_step(self) -> int:
        return max(self.steps, default=-1)


def sync_runs(runs: Sequence[RunDirectory], *, done: Callable[[Synced], None], upload_seconds: float = UPLOAD_SECONDS) -> list[Synced]:
    """Upload ended runs to W&B. `done` is called with each outcome.

    Raises TrackingError where the server cannot be reached or does not let us in: nothing was done.
    """
    outcomes = []
    with client():
        server = Server()
        for start in range(0, len(runs), BATCH_RUNS):
            for outcome in _sync_batch(server, runs[start : start + BATCH_RUNS], upload_seconds):
                done(outcome)
                outcomes.append(outcome)
        if any(outcome.outcome == "failed" for outcome in outcomes):
            # It would retry for as long as this process lives.
            kill_client()
    return outcomes


def _sync_batch(server: Server, runs: Sequence[RunDirectory], upload_seconds: float) -> Iterator[Synced]:
    with ExitStack() as stack:
        by_project: dict[tuple[str, str], list[_EndedRun]] = {}
        for run in runs:
            lock = hold(run.path / "wandb" / ".sync.lock")
            if lock is None:
                yield Synced(run, "failed", reason="another harness sync is at it")
                continue
            stack.callback(lock.release)
            try:
                ended = _EndedRun.read(run)
            except (OSError, ValueError, KeyError, TypeError, YAMLError, InputError) as error:
                yield Synced(run, "failed", reason=f"its files cannot be read: {type(error).__name__}: {error}")
            else:
                by_project.setdefault((ended.target.entity or server.default_entity, ended.target.project), []).append(ended)
        for (entity, project), members in by_project.items():
            yield from _sync_project(server, entity, project, members, upload_seconds)


def _sync_project(server: Server, entity: str, project: str, members: list[_EndedRun], upload_seconds: float) -> Iterator[Synced]:
    try:
        before = server.runs(entity, project, {ended.id: ended.steps for ended in members})
        lacking = [ended for ended in members if not _is_up_to_date(before.get(ended.id), ended)]
        failed = _upload(lacking, entity, upload_seconds)
        yield from (Synced(ended.run, "failed", reason=failed[ended.id]) for ended in members if ended.id in failed)
        members = [ended for ended in members if ended.id not in failed]
        outcomes = _verified(server, entity, project, members, before)
    except TrackingError as error:
        outcomes = [Synced(ended.run, "failed", reason=str(error)) for ended in members]
    yield from outcomes


def _upload(ended: list[_EndedRun], entity: str, upload_seconds: float) -> dict[str, str]:
    """Log what W&B lacks of runs; returns why some were not uploaded, by their ids."""
    in_a_row = 0
    scratch = scratch_directory(Path(tempfile.gettempdir()), "harness-sync-")
    with scratch as folder, ThreadPoolExecutor(PARALLEL_UPLOADS) as pool:
        asked = dict[str, Future[None]]()
        try:
            for one in ended:
                asked[one.id] = pool.submit(_upload_one, one, entity, folder, upload_seconds)
                # The first one alone: it puts the client's logger in place, which runs that begin beside it would find half there.
                wait([asked[one.id]] if len(asked) == 1 else [])
            for future in as_completed(asked.values()):
                in_a_row = 0 if future.exception() is None else in_a_row + 1
                if in_a_row == PARALLEL_UPLOADS:
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
        except BaseException:
            # Ctrl-C: threads that wait for the client end with it.
            pool.shutdown(wait=False, cancel_futures=True)
            kill_client()
            raise
    failed = {}
    for run_id, future in asked.items():
        if future.cancelled():
            failed[run_id] = f"not tried, since W&B took none of {PARALLEL_UPLOADS} runs in a row"
        elif error := future.exception():
            failed[run_id] = f"W&B does not take it: {type(error).__name__}: {' '.join(str(error).split())}"
    return failed


def _upload_one(ended: _EndedRun, entity: str, folder: Path, upload_seconds: float) -> None:
    run = start_run(
        replace(ended.target, entity=entity),
        identity=ended.identity,
        directory=folder / ended.id,
        hyperparameters=ended.config,
        init_seconds=upload_seconds,
        finish_seconds=upload_seconds,
    )
    model = ended.run if ended.result.state == "complete" and logs_own_model(tracking_of_run(ended.run), ended.run) else None
    TrackedRun(run, ended.run).finish(int(ended.result.state == "failed"), ended.summary, model=model)


def _is_up_to_date(remote: RemoteRun | None, ended: _EndedRun) -> bool:
    if remote is None or remote.state not in ("finished", "failed"):
        return False
    return ended.last_step <= remote.last_step and all(remote.summary.get(key) == value for key, value in ended.summary.items())


def _verified(server: Server, entity: str, project: str, members: list[_EndedRun], before: dict[str, RemoteRun]) -> list[Synced]:
    """Wait until the server shows the uploaded runs completely, or SETTLE_SECONDS; marks those that are synced."""
    deadline, pause = time.monotonic() + SETTLE_SECONDS, 0.5
    outcomes: dict[str, Synced] = {}
    waiting = members
    while waiting:
        after = server.runs(entity, project, {ended.id: ended.steps for ended in waiting})
        outcomes |= {ended.id: _compared(ended, before.get(ended.id), after.get(ended.id)) for ended in waiting}
        waiting = [ended for ended in waiting if outcomes[ended.id].outcome == "failed"]
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(pause)
        pause *= 2
    return list(outcomes.values())


def _compared(ended: _EndedRun, before: RemoteRun | None, after: RemoteRun | None) -> Synced:
    """Whether the server has every row that was to go there, once; marks the run if so."""
    if after is None:
        return Synced(ended.run, "failed", reason="W&B says that it took it, but does not show it")
    had = before.last_step if before else -1
    steps = after.steps if after.steps is not None else sorted(ended.steps) if after.rows else []
    missing = sorted(ended.steps - set(steps))
    if len(steps) > len(set(steps)) or any(step > had for step in missing):
        reason = f"W&B shows {after.rows} rows up to step {after.last_step}; it should be {len(ended.steps)} up to {ended.last_step}"
        return Synced(ended.run, "failed", url=after.url, reason=reason)
    mark_synced(ended.run, ended.result, url=after.url, rows=after.rows, last_step=after.last_step)
    note = f"{len(missing)} rows up to step {missing[-1]} were lost when they were logged online" if missing else None
    return Synced(ended.run, "synced", rows=after.rows - (before.rows if before else 0), url=after.url, reason=note)
