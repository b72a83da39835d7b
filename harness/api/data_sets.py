"""`harness.synth` and `data_set`: data that teachers write by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError, wrong_value
from harness.config.launcher import load_launcher, split_launcher

if TYPE_CHECKING:
    from harness.synthesis.directory import SynthDirectory


def synth(recipe: str | Path, *overrides: str, directory: str | Path | None = None, workers: int | None = None) -> DataSet:
    """Have teachers write a data set, or go on where that stopped, as `harness synth` does; with launcher=slurm, workers are submitted, and
    what is returned is under way.

    Args:
        recipe: A recipe's name, or its file.
        overrides: Keys of the recipe (`"seeds.prompts.path=prompts.jsonl"`, `"budget.tokens=5e6"`), and launcher=….
        directory: Where it is made; default: under runs/, by the recipe's name.
        workers: Processes that write; default: the recipe's workers, on Slurm launcher.workers.

    Raises:
        InputError: For a recipe, a seed file or a teacher that cannot be used, and for a directory that holds what another recipe made.
        KeyboardInterrupt: After Ctrl-C; what is written stays, and the same call goes on.
        RuntimeError: Where `harness stop` or a worker's failure ended it, or an endpoint does not answer; the same call goes on.
    """
    from harness.synthesis.endpoint import EndpointDownError
    from harness.synthesis.recipe import load_recipe
    from harness.work.synth import SynthStoppedError, begin, make
    from harness.work.synth_cluster import launch_synth

    if workers is not None and workers < 1:
        raise wrong_value("workers", workers, "expected at least 1")
    own, others = split_launcher(list(overrides))
    launcher = load_launcher([*own, *([f"launcher.workers={workers}"] if own and workers else [])])
    loaded, place = load_recipe(str(recipe), others), None if directory is None else Path(directory)
    if launcher.name == "slurm" and (submitted := launch_synth(loaded, place, launcher)) is not None:
        return data_set(submitted.place.path)
    begun = begin(loaded, place)
    try:
        make(begun, workers=workers or loaded.config.workers, progress=lambda there, asks, tokens: None)
    except (SynthStoppedError, EndpointDownError) as error:
        raise RuntimeError(f"{begun.directory.path}: {error}; the same call goes on") from None
    return DataSet(begun.directory)


def data_set(name: str | Path) -> DataSet:
    """The data set of this name under runs/, or in this directory, whoever makes it. Raises InputError where there is none."""
    from harness.runs.directory import synth_called
    from harness.synthesis.directory import SynthDirectory

    found = synth_called(str(name))
    if found is None:
        raise InputError(f"{name}: no data set that harness synth makes; valid: its name under runs/, or its directory")
    return DataSet(SynthDirectory(found))


class DataSet:
    """A data set on disk. Each attribute is what its files say when it is asked for, while workers are at it, too."""

    def __init__(self, directory: SynthDirectory) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        status = self.status
        return f"<DataSet {self._directory.name}: {status['state']}, {status['rows']} rows>"

    @property
    def directory(self) -> Path:
        """Where the recipe, what teachers wrote and the data are."""
        return self._directory.path

    @property
    def path(self) -> Path:
        """The rows to train on, for data.sources.<name>.path; there when status["state"] is complete, or the budget was used up."""
        return self._directory.data

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows to train on; [] before they are made."""
        from harness.runs.files import read_json_lines

        return list(read_json_lines(self.path))

    @property
    def status(self) -> dict[str, Any]:
        """What `harness status --json` prints of it: state, funnel, tokens, budget, …"""
        from harness.synthesis.status import summary

        return summary(self._directory)
