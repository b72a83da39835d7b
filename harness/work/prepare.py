"""The data of a run before it starts: tokenized and packed into the cache, once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError
from harness.config.synth_path import made_sources
from harness.config.terminal import log_to_stderr, say
from harness.runs.exit_codes import BAD_INPUT, FAILED
from harness.runs.machine_faults import machine_fault
from harness.work.data_summary import summary_of
from harness.work.elsewhere import reach
from harness.work.preparation_note import files_of, is_prepared, note_prepared, noted_summary, what_is_said

if TYPE_CHECKING:
    from harness.config.schema import Config
    from harness.data.training_data import TrainingData
    from harness.evaluation.evaluation_set import EvaluationSet
    from harness.training.plan import Plan

log = logging.getLogger("harness")

RESOLVED = "--config="


@dataclass(frozen=True)
class Prepared:
    """What a run of a configuration trains and is evaluated on."""

    config: Config
    tokenizer: Any
    training: TrainingData | None
    """None where it trains nothing."""
    evaluation: list[EvaluationSet]
    plan: Plan | None
    """None where the configuration does not say how long a run is."""
    from_objective: dict[str, dict[str, int]]
    """What the objective has put into the cache, of the plan's rows, else of one epoch: samples of a teacher, what a reference says."""

    @property
    def epochs(self) -> dict[str, float]:
        """How often the plan goes through each source."""
        return self.plan.data.order.epochs(int(self.plan.batch_size.rows_before(self.plan.steps)[-1])) if self.plan else {}


def read_config(overrides: list[str], resolved: Path | None = None) -> Config:
    """The configuration whose data are prepared; of one that does not say how long a run is, the data alone are checked.

    resolved: a run's config.yaml, in place of the composed configuration. Raises InputError.
    """
    from harness.config.checks import check, check_input
    from harness.config.checks.trainer import has_length, trains
    from harness.config.load import load, load_file

    config = load_file(resolved, overrides) if resolved else load(overrides, checked_by=check_input).config
    if has_length(config.trainer) or not trains(config.trainer):
        check(config)
    return config


def known_summary(config: Config) -> dict[str, Any] | None:
    """What `summary_of` said when these very data were prepared; None where they were not, or anything about them has changed."""
    return noted_summary(config, os.environ)


def prepare(config: Config) -> Prepared:
    """Tokenize and pack what a configuration (of `read_config`) names, with bars on stderr; what is in the cache is taken from there.

    Raises InputError for data that cannot be used.
    """
    files = files_of(config)
    with what_is_said() as said:
        prepared, entries = _prepare(config)
    note_prepared(prepared.config, files, entries, summary_of(prepared), said)
    return prepared


def _prepare(config: Config) -> tuple[Prepared, list[str]]:
    """And the entries of the cache that hold its tokens."""
    from harness.config.checks.trainer import has_length, trains

    describes_run = trains(config.trainer) and has_length(config.trainer)

    reach(config)
    if made_sources(config.data):
        from harness.work.made_data import with_made_data

        config = with_made_data(config).config

    # Only now what takes seconds to import: a typo is answered at once, and so is what is out of reach.
    from harness.data.epochs import check_epochs
    from harness.data.tokenization_progress import TokenizationProgress
    from harness.models.tokenizer import load_tokenizer
    from harness.training.inputs import load_data
    from harness.training.objectives.build import build_objective
    from harness.training.plan import build_plan
    from harness.training.steering import directions_of, extraction_of
    from harness.training.steering_diagnosis import diagnosis

    tokenizer = load_tokenizer(config)
    progress = TokenizationProgress().update
    data = load_data(config, tokenizer, progress=progress, verify=True)
    for part in data.evaluation:
        part.prepare()
    directions_of(config, tokenizer, progress)
    if config.adapter.pairs is not None:
        for line in diagnosis(extraction_of(config, tokenizer)):
            log.info("%s", line)
    entries = [part.cache_entry for part in data.evaluation if part.cache_entry is not None]
    plan: Plan | None = None
    from_objective: dict[str, dict[str, int]] = {}
    if data.training is not None:
        plan = build_plan(config, data.training) if describes_run else None
        if plan:
            check_epochs(config.data, plan.data, plan.batch_size, plan.steps)
        objective, rows = build_objective(config), plan.rows if plan else None
        training = objective.prepare(plan.data if plan else data.training, tokenizer, progress, rows=rows)
        from_objective = objective.prepared(training, rows)
        entries += [source.documents.fingerprint for source in training.sources]
    return Prepared(config, tokenizer, data.training, data.evaluation, plan, from_objective), entries


def prepare_arguments(overrides: list[str], resolved: Path | None = None) -> list[str]:
    """Command-line arguments of this module for the same."""
    return [*([f"{RESOLVED}{resolved.resolve()}"] if resolved else []), *overrides]


def prepare_apart(
    config: Config, overrides: list[str], resolved: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> None:
    """The same in a process of its own, which keeps its libraries out of this one; skipped if it was done before. Bars go to stderr.

    config: what the other arguments make. environment: variables on top of this process's.
    Raises InputError as `prepare` does, and CalledProcessError where that process fails otherwise, having said why.
    """
    variables = {**os.environ, **(environment or {})}
    if is_prepared(config, variables):
        return
    done = subprocess.run(
        [sys.executable, "-m", __name__, *prepare_arguments(overrides, resolved)],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == BAD_INPUT:
        raise InputError(done.stdout.rstrip("\n"))
    done.check_returncode()


if __name__ == "__main__":
    log_to_stderr("%(message)s")
    try:
        from harness.models.hub import fetch_models

        given = sys.argv[1:]
        resolved = Path(given[0].removeprefix(RESOLVED)) if given and given[0].startswith(RESOLVED) else None
        found = read_config(given[1:] if resolved else given, resolved)
        prepare(found)
        fetch_models(found)  # where runs are, there may be no network
    except InputError as error:
        # Read by prepare_apart.
        print(error)
        sys.exit(BAD_INPUT)
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        say(f"error: {fault}", err=True)
        sys.exit(FAILED)
