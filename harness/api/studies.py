"""`harness.sweep` and `study`: a study and its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.runs import Run, end_by
from harness.config.errors import InputError, wrong_value
from harness.config.terminal import say
from harness.runs.directory import RunDirectory, StudyDirectory

if TYPE_CHECKING:
    from harness.runs.record import StudyRecord


def sweep(sweep: str | Path, *overrides: str, workers: int | None = None, name: str | None = None, progress: bool = True) -> Study:
    """Start a study, or go on where it stopped, and follow it to its end, as `harness sweep` does; with launcher=slurm, its workers are
    submitted, and what is returned is under way.

    Trials run in worker processes, whose program is not the caller's: a script needs no `if __name__ == "__main__"`.

    Args:
        sweep: A file of sweeps/ by its name, or any sweep file.
        overrides: Of the sweep (`"budget.trials=8"`, `"search=random"`) and of the configuration that its trials start from.
        workers: Trials at a time; default: the sweep's launcher.workers.
        name: What the study is called; default: the file's name. A study of this name goes on, if its sweep is the same.
        progress: Whether to show the study on stderr (in notebooks and files: a line a trial).

    Raises:
        InputError: For a sweep, data or a configuration that cannot be used, before any trial starts.
        KeyboardInterrupt: After Ctrl-C (SIGTERM: SystemExit), when the trials have saved checkpoints and the workers have left. The same
            call goes on; a second Ctrl-C kills the workers.
        RuntimeError: When the workers died before the study was finished; it says why, and the same call goes on.
    """
    from harness.work.start_study import begin_study, read_sweep

    _check_workers(workers)
    loaded = read_sweep(str(sweep), list(overrides), name=name, workers=workers)
    if loaded.config.launcher.name == "slurm":
        from harness.work.cluster import launch_study

        launch_study(loaded)
        return study(loaded.name)
    directory = begin_study(loaded)
    _follow(directory, progress=progress)
    return Study(directory)


def study(name: str | Path) -> Study:
    """The study of this name under runs/, or in this directory, whoever started it. Raises InputError where there is none."""
    from harness.runs.directory import find_study

    return Study(find_study(str(name)))


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise wrong_value("workers", workers, "expected at least 1")


def _follow(directory: StudyDirectory, *, progress: bool) -> None:
    """Start the workers that are missing and wait until all have left. Raises what `sweep` says."""
    from harness.config.literal_console import LiteralConsole
    from harness.work.start_study import follow_workers

    followed = follow_workers(directory, console=LiteralConsole(stderr=True, quiet=not progress))
    lines = [] if followed.status.is_finished else followed.why_unfinished()
    if followed.signal is not None:
        for line in lines:
            say(line, err=True)
        end_by(followed.signal)
    if lines:
        raise RuntimeError("\n".join(lines))


class Trial(Run):
    """A run that is a point of a study."""

    @property
    def number(self) -> int:
        """Its number, from 0."""
        return int(self._directory.path.name)

    @property
    def params(self) -> dict[str, Any]:
        """Values of the space's parameters that are active in it, by configuration key."""
        return self._record.params

    @property
    def feasible(self) -> bool | None:
        """Whether it meets the study's constraints; None where there are none, or it has not ended."""
        return self._record.result.feasible


class Best(Trial):
    """The winner of a study."""

    def __init__(self, directory: RunDirectory, summary: Mapping[str, Any]) -> None:
        super().__init__(directory)
        self._summary = summary

    @property
    def confirmed(self) -> bool:
        """Whether `Study.confirm` found it best over seeds; else it is the best of the search, by one seed."""
        return bool(self._summary["confirmed"])

    @property
    def objective(self) -> float:
        """Of a confirmed winner the mean over seeds, else the trial's own."""
        return float(self._summary["objective"])

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of a confirmed winner, the 95 % interval of the mean; else None."""
        interval = self._summary["interval"]
        return (interval[0], interval[1]) if interval else None


class Study:
    """A study on disk. Each attribute is what its files say when it is asked for, while workers are at it, too."""

    def __init__(self, directory: StudyDirectory) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        return f"<Study {self.name}: {len(self.trials)} trials, best {self.best!r}>"

    @property
    def directory(self) -> Path:
        """Where sweep.yaml and the trials are."""
        return self._directory.path

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return self._directory.name

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers."""
        return [Trial(run) for run in self._directory.trials()]

    @property
    def best(self) -> Best | None:
        """The confirmed winner; without one, the complete trial with the best objective among those that meet the constraints, or None."""
        from harness.search.status import best_json

        record = self._record
        winner = record.best
        summary = best_json(record, winner)
        return Best(winner.directory, summary) if winner is not None and summary is not None else None

    @property
    def status(self) -> dict[str, Any]:
        """What `harness status --json` prints: finished, trials, budget, best, workers, …"""
        from harness.search.status import read_status

        return read_status(self._directory).to_json()

    @property
    def importances(self) -> dict[str, float]:
        """By parameter, its share in what made the objectives of the trials of full length differ; empty with fewer than four of them."""
        from harness.report.comparison import compare

        return compare([self._record], []).importances.shares

    def confirm(
        self,
        *,
        top: int = 3,
        seeds: int = 3,
        trials: Sequence[int] = (),
        rounds: int = 1,
        retrain: bool = False,
        workers: int | None = None,
        progress: bool = True,
    ) -> Best | None:
        """Train the best configurations again over fresh seeds, as `harness confirm` does; returns the winner, None where none is fit.

        A study on Slurm submits the runs and returns what is known so far.

        Args:
            top: How many of the best configurations.
            seeds: Over how many seeds each, at least 2.
            trials: The numbers of those to take instead of the best.
            rounds: At most so many: each after the first takes as many again, of those that were better in the search than what is
                confirmed, and that by what was measured so far are expected to meet the constraints.
            retrain: Of a study of merges, train the ingredients that are runs here again for each seed: in this process, on Slurm in jobs.
            workers: Runs at a time; default: as many as the study had.
            progress: As of `sweep`.

        Raises:
            InputError: Where there is nothing to confirm.
            UnfinishedError: Where an ingredient's training did not come to its end; the same call goes on.
            KeyboardInterrupt, RuntimeError: As `sweep`.
        """
        from harness.work.confirm import confirm_in_rounds
        from harness.work.start_study import launcher_of

        def train(study: StudyRecord, directory: StudyDirectory) -> bool:
            if launcher_of(directory).name == "slurm":
                from harness.work.cluster import submit_wanted
                from harness.work.retrain import awaited_jobs

                submit_wanted(directory, after=awaited_jobs(directory))
                return False
            _follow(directory, progress=progress)
            return True

        _check_workers(workers)
        confirm_in_rounds(
            self._record, train, top=top, seeds=seeds, trials=trials, rounds=rounds, workers=workers, retrain_ingredients=retrain
        )
        best = self.best
        return best if best is not None and best.confirmed else None

    def export(self, name: str) -> Path:
        """Write the best as conf/experiment/best/NAME.yaml with its bundle, as `harness best --export` does.

        `load("experiment=best/NAME")` is it again.

        Raises:
            InputError: For a study without a best trial, or a name that cannot be a file's.
        """
        from harness.work.recipe_export import export_recipe

        record = self._record
        if record.best is None:
            raise InputError(f"{self.name}: no best configuration: no complete trial meets the constraints")
        return export_recipe(record, record.best, name).experiment

    @property
    def _record(self) -> StudyRecord:
        from harness.runs.record import load_study

        return load_study(self._directory)
