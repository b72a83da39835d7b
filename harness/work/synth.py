"""What `harness synth` does: a directory that is begun or gone on with, workers that write, and the data set in the end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.config.errors import InputError
from harness.config.nested import flat
from harness.config.terminal import say
from harness.config.validate import to_plain
from harness.runs.directory import runs_root
from harness.runs.exit_codes import BAD_INPUT, DONE
from harness.runs.files import write_yaml
from harness.runs.locks import hold
from harness.synthesis.directory import SynthDirectory
from harness.synthesis.plan import Draft, Plan
from harness.synthesis.recipe import Recipe
from harness.synthesis.stages import Made, make_data
from harness.synthesis.status import answers
from harness.work.study_jobs import StudyJobs, study_jobs
from harness.work.synth_data import write_data
from harness.work.synth_teacher import Record, Teachers
from harness.work.synth_worker import answered, work

POLL_SECONDS = 0.5
RELAY_SECONDS = 2.0
"""How long the last words of a worker that has ended are waited for: a process that it left behind may hold its stderr open."""
AFTER_WRITING = ("filters.", "dedup.", "decontaminate.", "select.", "emit.", "budget.", "workers")
"""Keys that change nothing of what is asked of teachers."""
Progress = Callable[[int, int, int], None]
"""Told of answers that are there, of how many in all, and of tokens that this command spent."""


class SynthStoppedError(Exception):
    """Asked to stop, or a worker failed: what is written stays."""


@dataclass(frozen=True)
class Begun:
    """A data set that can be made, or gone on with."""

    directory: SynthDirectory
    plan: Plan
    teachers: Teachers


def begin(recipe: Recipe, path: Path | None) -> Begun:
    """Check all of a recipe, and begin its directory, or go on with it.

    Raises InputError for what cannot be used, and where the directory holds something that another recipe made.
    """
    directory = SynthDirectory(path or runs_root() / recipe.name)
    if directory.path.exists() and not directory.recipe.is_file() and (not directory.path.is_dir() or any(directory.path.iterdir())):
        raise InputError(f"--dir {directory.path}: is there already, and holds no recipe; valid: a new or empty directory")
    teachers = Teachers(recipe)
    plan = Plan(recipe, recipe.read_seeds(), teachers.fingerprints())
    return begin_plan(directory, plan, teachers)


def begin_plan(directory: SynthDirectory, plan: Plan, teachers: Teachers) -> Begun:
    """Begin a plan's directory, or go on with it.

    Raises InputError for filters and evaluation files that cannot be used, and where teachers wrote something there for another recipe.
    """
    make_data([], plan.recipe.config)  # what it refuses is refused before it costs anything
    document: dict[str, Any] = {
        "name": plan.recipe.name,
        "version": __version__,
        "recipe": to_plain(plan.recipe.config),
        "seeds": plan.seeds.fingerprints(),
        "teachers": plan.teachers,
        "steps": plan.keys,
        "shards": plan.shards,
        "asks": plan.asks,
    }
    if directory.recipe.is_file():
        kept = directory.begun()
        is_other = not _is_written_alike(kept, document)
        if is_other:
            _refuse_written(directory, kept, document)
        # There is something to write again, or for the first time.
        if is_other or kept["steps"] != plan.keys or retries_of(kept["recipe"]) != retries_of(document["recipe"]):
            jobs = study_jobs(directory)  # not under the lock: Slurm may take its time
            with directory.changing() as ledger:
                _refuse_workers(directory, max(kept["shards"], plan.shards), jobs)
                if is_other:
                    _refuse_written(directory, kept, document)  # workers may have written something, and left
                ledger.begin_again()
    write_yaml(directory.recipe, document)
    return Begun(directory, plan, teachers)


def _refuse_workers(directory: SynthDirectory, shards: int, jobs: StudyJobs | None) -> None:
    """Refuse to change what is written while workers go by what it was: they would call shards done that lack something.

    Raises InputError.
    """
    trouble = jobs.trouble if jobs else None
    if trouble or directory.is_making() or directory.at_work(shards) or (jobs and jobs.live):
        why = f"its jobs cannot be asked for ({trouble})" if trouble else "workers write it"
        raise InputError(
            f"{directory.path}: this recipe has more to write, and {why}; valid: the recipe that it was begun with, or "
            f"`harness stop {directory.path}` first"
        )


def retries_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """What new draws for texts that cannot be parsed depend on, by step that has any."""
    return {name: [step["parse"], step["retries"]] for name, step in recipe["steps"].items() if step.get("retries")}


def _is_written_alike(kept: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether what was written by a recipe is what another asks for; it may filter, score and emit otherwise."""
    written = {name for name, step in kept["recipe"]["steps"].items() if step["template"] is not None}
    alike = all(now["steps"].get(name) == key for name, key in kept["steps"].items() if name in written or name in now["steps"])
    shape = ("seed", "rows", "shard_rows")
    return (
        alike
        and kept["seeds"] == now["seeds"]
        and draws_of(kept["recipe"]) == draws_of(now["recipe"])  # with others a row is of another shard
        and all(kept["recipe"][key] == now["recipe"][key] for key in shape)
    )


def draws_of(recipe: dict[str, Any]) -> dict[str, int]:
    """How many texts steps draw for each row, of those that draw several."""
    return {name: step["draws"] for name, step in recipe["steps"].items() if step["draws"] > 1}


def _refuse_written(directory: SynthDirectory, kept: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with what another recipe wrote, where it wrote something. Raises InputError, which names what differs."""
    if not answers(directory, kept["shards"]):
        return
    valid = "the same recipe, or another --dir"
    before, after = dict(flat(kept["recipe"])), dict(flat(now["recipe"]))
    different = sorted(key for key in {*before, *after} if before.get(key) != after.get(key) and not key.startswith(AFTER_WRITING))
    if different:
        said = "; ".join(f"{key}={_short(before.get(key))}, now {_short(after.get(key))}" for key in different[:5])
        raise InputError(f"{directory.path}: holds what another recipe made: {said}; valid: {valid}")
    for section in ("seeds", "teachers"):
        changed = [name for name, value in now[section].items() if kept[section].get(name) != value]
        if changed:
            raise InputError(f"{directory.path}: {section}.{changed[0]} is no longer what it was when this was begun; valid: {valid}")
    raise InputError(f"{directory.path}: holds what another recipe made (filters.finish decides what later steps read); valid: {valid}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def make(begun: Begun, *, workers: int, progress: Progress) -> Made:
    """Have all rows written, and make the data set of them.

    Raises InputError, SynthStoppedError; KeyboardInterrupt, EndpointDownError and OSError leave what has ended.
    """
    with _making(begun.directory, wait=False):
        _write(begun, workers, progress)
        return write_data(begun.directory, begun.plan, begun.directory)


def fill(begun: Begun, *, workers: int, progress: Progress) -> None:
    """Have all rows written; where another process is at it, wait for it. Raises as `make`."""
    with _making(begun.directory, wait=True):
        _write(begun, workers, progress)


def _write(begun: Begun, workers: int, progress: Progress) -> None:
    directory, plan, spent = begun.directory, begun.plan, 0
    directory.settle_all_killed()
    with directory.changing() as ledger:
        ledger.keep_to(plan.recipe.config.budget)
        ledger.refused = None
    try:
        while not (ledger := directory.ledger()).is_whole(plan.shards) and ledger.refused is None:
            held = directory.at_work(plan.shards)
            if all(ledger.of(shard).done or shard in held for shard in range(plan.shards)):
                # Workers of jobs are at all that is left; what they leave is taken over.
                progress(answers(directory, plan.shards), plan.asks, spent)
                time.sleep(POLL_SECONDS)
            elif workers == 1:
                spent = _work_here(begun, progress, spent)
            else:
                spent = _work_apart(begun, workers, progress, spent)
            if directory.stop_request.exists():
                raise SynthStoppedError("stopped")
    finally:
        begun.teachers.close()


@contextmanager
def _making(directory: SynthDirectory, *, wait: bool) -> Iterator[None]:
    while (lock := hold(directory.making_lock)) is None:
        if not wait:
            raise InputError(f"{directory.path}: another command makes it; `harness status {directory.path}` shows it")
        time.sleep(POLL_SECONDS)
    try:
        directory.stop_request.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _work_here(begun: Begun, progress: Progress, spent: int) -> int:
    """spent: tokens that this command spent before; returns those that it has spent now."""
    there = sum(len(begun.directory.records(shard)) for shard in range(begun.plan.shards))

    def on_record(record: Record) -> None:
        nonlocal there, spent
        there += 1
        spent += sum(record.get("tokens", ()))
        progress(there, begun.plan.asks, spent)

    progress(there, begun.plan.asks, spent)
    work(begun.directory, begun.plan, begun.teachers, on_record=on_record, stopping=begun.directory.stop_request.exists)
    return spent


def _work_apart(begun: Begun, workers: int, progress: Progress, spent: int) -> int:
    """Workers in processes of their own; this one only watches. spent: as of `_work_here`."""
    command = [sys.executable, "-m", "harness.work.synth_worker", str(begun.directory.path)]
    before = begun.directory.ledger().used - spent

    def look() -> int:
        spent = begun.directory.ledger().used - before
        progress(answers(begun.directory, begun.plan.shards), begun.plan.asks, spent)
        return spent

    running = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        for _ in range(min(workers, begun.plan.shards))
    ]
    said = dict[str, subprocess.Popen[str]]()
    relays = [threading.Thread(target=_say_once, args=(process, said), daemon=True) for process in running]
    for relay in relays:
        relay.start()
    try:
        while any(process.poll() is None for process in running):
            look()
            time.sleep(POLL_SECONDS)
    except BaseException:
        begun.directory.stop_request.touch()
        for process in running:
            process.wait()
        raise
    finally:
        for relay in relays:
            relay.join(RELAY_SECONDS)
    spent = look()
    codes = [process.returncode for process in running]
    if all(code == DONE for code in codes):
        return spent
    if BAD_INPUT in codes:
        raise InputError("a worker was refused what it needs, see above")
    # Others have gone on with what a worker left that was killed, unless it was the last one.
    ledger = begun.directory.ledger()
    if not ledger.refused and not ledger.is_whole(begun.plan.shards):
        raise SynthStoppedError(f"a worker failed (exit code {next(code for code in codes if code != DONE)})")
    return spent


def _say_once(process: subprocess.Popen[str], said: dict[str, subprocess.Popen[str]]) -> None:
    """Say what a worker says, but for errors that another one has said: what one cannot do, none of them can. said: by line, who did."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("error: ") and said.setdefault(line, process) is not process:
            continue
        try:
            say(line.rstrip("\n"), err=True)
        except OSError:
            continue  # nobody reads it any more; unread, its worker would wait for ever


def preview(recipe: Recipe, rows: int) -> list[Draft]:
    """The first rows of a recipe, kept nowhere. Raises InputError."""
    make_data([], recipe.config)
    teachers = Teachers(recipe)
    plan = Plan(recipe, recipe.read_seeds(), teachers.fingerprints())
    try:
        records = answered(plan, teachers, 0, -(-rows // recipe.draws))
    finally:
        teachers.close()
    return plan.rows(0, records)[:rows]
