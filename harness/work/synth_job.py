"""A worker that makes synthetic data in a job of a cluster. Nobody waits for it: the last one to leave makes the data set.

`python -m harness.work.synth_job DIRECTORY` is one in a process of its own.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from harness.config.terminal import log_to_stderr
from harness.runs.exit_codes import DONE, STOPPED
from harness.runs.locks import hold
from harness.runs.signals import STOP_SIGNALS
from harness.synthesis.directory import SynthDirectory
from harness.synthesis.plan import Plan
from harness.work.synth_data import is_made, write_data
from harness.work.synth_worker import main as work
from harness.work.synth_worker import plan_of


def main(path: Path) -> int:
    """Work on a directory until nothing is left, or asked to leave: STOPPED, where the job is to go back into the queue."""
    directory, told = SynthDirectory(path), False

    def tell(_number: int, _frame: object) -> None:
        nonlocal told
        told = True

    for number in STOP_SIGNALS:
        signal.signal(number, tell)
    code = work(path, stopping=lambda: told, then=make_data_set)
    if code == DONE and told and not directory.stop_request.exists() and not _is_over(directory, plan_of(directory)):
        return STOPPED
    return code


def _is_over(directory: SynthDirectory, plan: Plan) -> bool:
    """Whether nothing more will be written."""
    ledger = directory.ledger()
    return ledger.is_whole(plan.shards) or ledger.refused is not None


def make_data_set(directory: SynthDirectory) -> None:
    """Make the data set of what is written, where nothing more will be, and no other process is at it."""
    plan = plan_of(directory)
    if directory.at_work(plan.shards) or not _is_over(directory, plan):
        return
    lock = hold(directory.making_lock)
    if lock is not None:
        try:
            if not is_made(directory, plan):  # by another element, which left before
                write_data(directory, plan, directory)
        finally:
            lock.release()


if __name__ == "__main__":
    log_to_stderr("%(message)s")
    sys.exit(main(Path(sys.argv[1])))
