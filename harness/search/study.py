"""A study at work: who claims which trial, and what comes of it. Optuna proposes and remembers; the trials' own files are the truth.

Every step happens under the study's lock. A trial that has not ended belongs to the process that holds its attempt lock, or to the
worker that claimed it and holds its worker lock; when neither lives, the next worker that comes by takes the trial over, with its
number, its parameters and its last checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.config.errors import InputError
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import write_yaml
from harness.runs.result import Result, read_result
from harness.runs.trial import Trial, read_trial, write_trial
from harness.search.books import Books
from harness.search.samplers import build_sampler
from harness.search.storage.build import open_storage
from harness.search.storage.contract import StudyStorage
from harness.search.sweep import Sweep
from harness.search.workers import threads_per_worker

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy


@dataclass(frozen=True)
class Claim:
    """A trial that a worker has to itself until it settles it."""

    number: int
    run: RunDirectory


Answer = Claim | Literal["wait", "done"]
"""wait: nothing to do now, but trials under way may yet be left to others, or free budget; done: nothing will come any more."""


class Study:
    """The one door to a study for a worker."""

    def __init__(self, directory: StudyDirectory, sweep: Sweep, worker: str, storage: StudyStorage | None = None) -> None:
        self.directory = directory
        self.sweep = sweep
        self.worker = worker
        self.storage = storage or open_storage(directory, worker)
        # Composes every choice of a group: not while others wait for the lock.
        self._largest_trial_tokens = sweep.largest_trial_tokens
        with self.storage.locked():
            self._optuna = _open(self.storage, directory.name, sweep.config.objective.direction)
        self._books = Books(directory, sweep, self._optuna, self.storage)
        self._failed_before = {record.number for record in self._books.records() if record.result.state == "failed"}

    # Claiming.

    def claim(self) -> Answer:
        """Take over a trial that was left, or start a new one if the budget holds it.

        Raises InputError when trials fail for one and the same reason since this worker started, and none is complete.
        """
        with self.storage.locked():
            if self.directory.stop_request.exists():
                return "done"
            waiting, under_way = self._books.reconcile()
            self._refuse_to_burn_the_budget()
            if waiting:
                return self._take(waiting[0])
            number = len(self._optuna.get_trials(deepcopy=False))
            # It is there already if a worker died between these lines and Optuna's.
            if read_trial(self.directory.trial(number)) is None:
                if not self._books.budget().has_room_for(self._largest_trial_tokens):
                    return "wait" if under_way else "done"
                # The reservation comes first: whatever happens from here on, the budget knows of this trial.
                reservation = Trial(number=number, params=None, tokens=self._largest_trial_tokens, worker=self.worker)
                write_trial(self.directory.trial(number), reservation)
            return self._take(number)

    def _take(self, number: int) -> Claim:
        # By its number, whoever asks, and however often: a proposal that was half made when its worker died is made again.
        self._optuna.sampler = build_sampler(self.sweep.config.search, number)
        # Waiting trials come first, the lowest number before the others, with the values they were given.
        trial = self._optuna.ask()
        assert trial.number == number, f"Optuna handed out trial {trial.number} for {number}"
        run = self.directory.trial(number)
        known = read_trial(run)
        params = known.params if known and known.params is not None else self.sweep.space.suggest(trial)
        # From here on the trial has its values: Optuna must not learn of it without them.
        self.storage.flush()
        write_trial(run, Trial(number=number, params=params, tokens=self.sweep.trial_tokens(params), worker=self.worker))
        return Claim(number, run)

    def prepare(self, claim: Claim) -> bool:
        """Write the trial's configuration; False, and the trial is failed, when its values do not go together."""
        if claim.run.config.exists():
            return True
        trial = read_trial(claim.run)
        assert trial is not None, "a claimed trial is on disk"
        assert trial.params is not None, "a claimed trial has its values"
        try:
            config = self.sweep.trial_config(trial.params)
        except InputError as error:
            with self.storage.locked():
                self._books.fail(claim.run, read_result(claim.run), str(error))
            return False
        if config.trainer.threads is None:
            config.trainer.threads = threads_per_worker(self.sweep.config.launcher.workers)
        write_yaml(claim.run.config, to_plain(config))
        return True

    def settle(self, claim: Claim, exit_code: int, *, stopping: bool = False) -> Result:
        """Book what became of an attempt: the end of the trial, or leave it for another attempt.

        stopping: whether the worker is on its way out, and has asked the attempt to end.
        """
        with self.storage.locked():
            return self._books.settle(claim.run, exit_code, stopping=stopping)

    def _refuse_to_burn_the_budget(self) -> None:
        """Raise InputError when what keeps trials from running is no matter of their values."""
        if self._books.some_are_complete:
            return
        records = self._books.records()
        if any(record.result.state == "complete" for record in records):
            return
        failed = [record for record in records if record.result.state == "failed" and record.number not in self._failed_before]
        for reason in {record.result.reason for record in failed}:
            alike = [str(record.number) for record in failed if record.result.reason == reason]
            if len(alike) >= self.sweep.config.search.max_failures:
                raise InputError(
                    f"trials {', '.join(alike)} failed alike and none is complete, so no further one starts (search.max_failures="
                    f"{self.sweep.config.search.max_failures}): {reason}"
                )


def _open(storage: StudyStorage, name: str, direction: Literal["minimize", "maximize"]) -> OptunaStudy:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(storage=storage.optuna, study_name=name, direction=direction, load_if_exists=True)
