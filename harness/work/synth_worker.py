"""A worker that makes synthetic data: shard after shard, as long as there are any and the budget has room.

`python -m harness.work.synth_worker DIRECTORY` is one in a process of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.config.errors import InputError
from harness.config.synth_schema import SynthConfig
from harness.config.terminal import log_to_stderr, say
from harness.config.validate import to_section
from harness.runs.exit_codes import BAD_INPUT, DONE, FAILED
from harness.runs.machine_faults import machine_fault
from harness.synthesis.directory import Claim, Reserved, SynthDirectory
from harness.synthesis.endpoint import EndpointDownError
from harness.synthesis.plan import Ask, Plan
from harness.synthesis.recipe import Recipe
from harness.work.synth_teacher import Record, Teacher, Teachers

OnRecord = Callable[[Record], None]
"""Told of every text that has ended."""


def work(directory: SynthDirectory, plan: Plan, teachers: Teachers, *, on_record: OnRecord, stopping: Callable[[], bool]) -> None:
    """Write shards until none is left, the budget has no room, or `stopping`. Raises InputError for a teacher that cannot be used."""
    while (claim := directory.claim(plan.shards, stopping=stopping)) is not None:
        try:
            if not _shard(claim, plan, teachers, on_record, stopping):
                return
        finally:
            claim.release()


def _shard(claim: Claim, plan: Plan, teachers: Teachers, on_record: OnRecord, stopping: Callable[[], bool]) -> bool:
    """Write what a shard lacks, as far as it is its turn. False where the budget has no room, or when asked to stop."""
    drafts, phase = plan.begin(claim.shard), 0
    for step in plan.recipe.config.steps:
        for round_ in range(plan.rounds(step) if step in plan.keys else 0):
            records = claim.directory.records(claim.shard)
            asks = plan.asks_of(drafts, step, records, round_)
            if not asks:
                break
            missing = [ask for ask in asks if (step, ask.id) not in records]
            if missing:
                if not claim.begin_phase(phase + round_):
                    return True
                asked = _ask(claim, plan, teachers, step, asks, missing, on_record, stopping)
                if asked != "yes":
                    return asked == "later"
        phase += plan.rounds(step) if step in plan.keys else 0
        drafts = plan.after(drafts, step, claim.directory.records(claim.shard))
    claim.finish()
    return True


def _ask(
    claim: Claim,
    plan: Plan,
    teachers: Teachers,
    step: str,
    asks: Sequence[Ask],
    missing: Sequence[Ask],
    on_record: OnRecord,
    stopping: Callable[[], bool],
) -> Reserved:
    """Have a step's teacher answer what is missing of what is asked together; whether it has. no: also when asked to stop on the way."""
    teacher = teachers[plan.recipe.teacher_of(step)]
    lot = teacher.look_at(step, asks if teacher.rewrites else missing)
    reserved = claim.reserve(lot.most_tokens, at_risk=lot.at_risk, steps=len(plan.keys), stopping=stopping)
    if reserved != "yes":
        return reserved
    left, lost = len(lot.asks), 0
    try:
        for record in lot.refused:
            claim.directory.append(claim.shard, record)
            on_record(record)
        for record in teacher.answer(step, lot):
            claim.directory.append(claim.shard, record)
            left -= 1
            lost += record.get("lost", 0)
            on_record(record)
            if left and stopping():
                return "no"
    finally:
        claim.settle(lost=lost + (lot.at_risk if left and not teacher.wrote_nothing else 0), ended=not left)
    return "yes"


def answered(plan: Plan, teachers: Teachers, shard: int, rows: int) -> dict[tuple[str, str], Record]:
    """The records of the first rows of a shard, written here and kept nowhere."""
    records: dict[tuple[str, str], Record] = {}
    drafts = plan.begin(shard)[:rows]
    for step in plan.recipe.config.steps:
        for round_ in range(plan.rounds(step) if step in plan.keys else 0):
            asks = plan.asks_of(drafts, step, records, round_)
            if not asks:
                break
            teacher: Teacher = teachers[plan.recipe.teacher_of(step)]
            lot = teacher.look_at(step, asks)
            for record in (*lot.refused, *teacher.answer(step, lot)):
                records[step, record["id"]] = record
        drafts = plan.after(drafts, step, records)
    return records


def plan_of(directory: SynthDirectory) -> Plan:
    """The plan of a directory that was begun. Raises InputError where its seeds are no longer what they were."""
    kept = directory.begun()
    recipe = Recipe(kept["name"], to_section(SynthConfig, kept["recipe"]))
    seeds = recipe.read_seeds()
    for name, fingerprint in seeds.fingerprints().items():
        if kept["seeds"].get(name) != fingerprint:
            raise InputError(
                f"seeds.{name}: {recipe.config.seeds[name].path} has changed since {directory.path} was begun; valid: as it was"
            )
    return Plan(recipe, seeds, kept["teachers"])


def main(path: Path, *, stopping: Callable[[], bool], then: Callable[[SynthDirectory], None] | None = None) -> int:
    """Work on a directory until nothing is left, or asked to stop: there, or by `stopping`. Its exit code. then: done in the end."""
    directory = SynthDirectory(path)
    try:
        plan = plan_of(directory)
        teachers = Teachers(plan.recipe)
        try:
            work(
                directory,
                plan,
                teachers,
                on_record=lambda record: None,
                stopping=lambda: directory.stop_request.exists() or stopping(),
            )
        finally:
            teachers.close()
        if then is not None:
            then(directory)
    except InputError as error:
        for line in str(error).splitlines():
            say(f"error: {line}" if not line.startswith("  ") else line, err=True)
        return BAD_INPUT
    except EndpointDownError as error:
        say(f"error: {error}", err=True)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    except Exception as error:
        if (fault := machine_fault(error, path)) is None:
            raise
        say(f"error: {fault}", err=True)
        return FAILED
    return DONE


if __name__ == "__main__":
    log_to_stderr("%(message)s")
    parent = os.getppid()
    sys.exit(main(Path(sys.argv[1]), stopping=lambda: os.getppid() != parent))
