"""Runs that a command needs on its way to something else: kept where it finds them again, so that nothing is done twice."""

from __future__ import annotations

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml
from harness.runs.record import RunRecord, load_run
from harness.runs.result import ENDED_WELL
from harness.work.start_run import continue_run, start_run


class UnfinishedError(Exception):
    """A run was stopped, or failed. Its text says which, and what can be done."""


def kept_run(config: Config, run: RunDirectory) -> RunRecord:
    """The run of this configuration in this directory: the one that is there, gone on with where it has not ended, or a new one.

    One that a callback ended early has ended, too. Raises InputError for a directory that holds something else, UnfinishedError where the
    run does not come to its end.
    """
    if is_begun(config, run):
        continue_run(run)
    else:
        start_run(config, directory=run.path)
    record = load_run(run)
    if record.state == "failed":
        raise UnfinishedError(f"{run.path}: failed: {record.result.reason}; valid: the same command again when the cause is removed")
    if record.state not in ENDED_WELL:
        raise UnfinishedError(f"{run.path}: {record.result.reason or record.state}; the same command goes on")
    return record


def is_begun(config: Config, run: RunDirectory) -> bool:
    """Whether the run of this configuration is in this directory. Raises InputError where it is another's."""
    if not run.config.exists():
        return False
    if read_yaml(run.config) != to_plain(config):
        raise InputError(f"{run.path}: a run of something else; move it away")
    return True
