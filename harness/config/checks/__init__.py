"""What several keys must agree on, checked before any work starts. Cheap: looks at files' existence, never at their content.

One module a section; each yields one line a problem.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.checks.adapter import adapter_problems
from harness.config.checks.data import data_problems, kl_problems
from harness.config.checks.model import attention_problems, model_problems
from harness.config.checks.objective import objective_problems
from harness.config.checks.optim import optim_problems
from harness.config.checks.sampling import sampling_problems
from harness.config.checks.schedule import planned_schedule_problems
from harness.config.checks.sizes import size_problems
from harness.config.checks.tracking import tracking_problems
from harness.config.checks.trainer import evaluation_problems, strategy_problems, trainer_problems, trains
from harness.config.errors import InputError
from harness.config.schema import Config


def check(config: Config) -> None:
    """Raise InputError, one line a problem, for combinations that cannot work."""
    _refuse([*size_problems(config)])  # the others compute with them
    training = _training(config) if trains(config.trainer) else evaluation_problems(config)
    _refuse([*_input(config), *sampling_problems(config.sampling), *tracking_problems(config.tracking, config.trainer), *training])


def _training(config: Config) -> Iterator[str]:
    yield from trainer_problems(config.trainer, config.data.context_length)
    yield from strategy_problems(config)
    yield from attention_problems(config)
    yield from optim_problems(config)
    yield from planned_schedule_problems(config)
    yield from _replay(config)


def check_input(config: Config) -> None:
    """Like `check`, but of text, tokenizer and model alone: no run has to be described to look at its data."""
    _refuse([*size_problems(config)])
    _refuse([*_input(config)])


def check_model(config: Config) -> None:
    """Like `check`, but of tokenizer, model and adapter alone: a run can be exported when its data are gone."""
    _refuse([*_model(config), *adapter_problems(config)])


def check_writing(config: Config) -> None:
    """Like `check_model`, and of how the model writes."""
    _refuse([*_model(config), *adapter_problems(config), *sampling_problems(config.sampling)])


def _model(config: Config) -> Iterator[str]:
    return model_problems(config.model, config.tokenizer.path, config.data.context_length, prompt=config.adapter.tokens)


def _input(config: Config) -> Iterator[str]:
    yield from _model(config)
    yield from data_problems(config.data, trains=trains(config.trainer))
    yield from kl_problems(config, trains=trains(config.trainer))
    yield from adapter_problems(config)
    if trains(config.trainer):
        yield from objective_problems(config)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError("\n".join(problems))


def _replay(config: Config) -> Iterator[str]:
    share = config.schedule.decay_replay_share
    if share and not any(source.replay for source in config.data.sources.values()):
        yield f"schedule.decay_replay_share={share}: no source has .replay=true to draw it from"
    if share is not None and config.data.replay_share_end is not None:
        yield f"schedule.decay_replay_share={share}: not beside data.replay_share_end={config.data.replay_share_end}; give one of them"
