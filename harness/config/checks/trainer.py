"""What length, batch and micro-batches must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.config.errors import InputError
from harness.config.length import parse_length
from harness.config.schema import Config, TrainerConfig, evaluation_sections

CALLBACKS = "lightning.pytorch.callbacks."
CALLBACK_ARGUMENTS = {
    "DeviceStatsMonitor": ("cpu_stats",),
    "EarlyStopping": (
        "monitor",
        "min_delta",
        "patience",
        "verbose",
        "mode",
        "strict",
        "check_finite",
        "stopping_threshold",
        "divergence_threshold",
        "log_rank_zero_only",
    ),
    "LearningRateMonitor": ("logging_interval", "log_momentum", "log_weight_decay"),
    "ModelSummary": ("max_depth",),
    "RichModelSummary": ("max_depth",),
    "Timer": ("duration", "verbose"),
}
"""Callbacks that a configuration may build, by name (a path such as ….model_checkpoint.os.system could run anything), with what they take.

None of them writes a file. Others of Lightning's would do what the harness does itself: checkpoints, bars, averages, accumulation.
"""


def trainer_problems(trainer: TrainerConfig, context_length: int) -> Iterator[str]:
    if not has_length(trainer):
        yield (
            "trainer.max_tokens: required, the length of the run, e.g. trainer.max_tokens=2e6 (or in steps: trainer.max_steps=1000, or "
            "trainer.max_epochs=3)"
        )
    if trainer.batch_pairs is None:
        yield from _batch_problems(trainer, context_length)
    elif trainer.initial_batch_tokens is not None:
        yield f"trainer.initial_batch_tokens={trainer.initial_batch_tokens}: not with trainer.batch_pairs; valid: one of the two"
    if trainer.strategy == "fsdp2" and trainer.precision == "16-mixed":
        yield f"trainer.precision={trainer.precision}: not with trainer.strategy=fsdp2; valid: 32-true, bf16-mixed, bf16-true"
    for key, callback in trainer.callbacks.items():
        yield from _callback_problems(f"trainer.callbacks.{key}", callback)


def _batch_problems(trainer: TrainerConfig, context_length: int) -> Iterator[str]:
    rows, rest = divmod(trainer.batch_tokens, context_length)
    if rest:
        multiple = max(1, round(trainer.batch_tokens / context_length)) * context_length
        yield f"trainer.batch_tokens={trainer.batch_tokens}: must be a multiple of data.context_length={context_length}, e.g. {multiple}"
    elif rows % (trainer.micro_batch_size or 1):
        yield (
            f"trainer.micro_batch_size={trainer.micro_batch_size}: must divide the {rows} rows of a batch "
            "(trainer.batch_tokens / data.context_length)"
        )
    elif rows % ((trainer.micro_batch_size or 1) * ranks(trainer)):
        yield (
            f"trainer.devices={trainer.devices}: {ranks(trainer)} ranks (times trainer.nodes={trainer.nodes}) with micro-batches of "
            f"{trainer.micro_batch_size or 1} rows do not divide the {rows} rows of a batch (trainer.batch_tokens / data.context_length)"
        )
    initial = trainer.initial_batch_tokens
    if initial is not None:
        warmup = parse_length("trainer.batch_warmup", trainer.batch_warmup)
        if warmup.unit == "fraction" and trainer.max_tokens is None and trainer.max_steps is None:
            yield (
                f"trainer.batch_warmup={trainer.batch_warmup}: a share of a run whose length is trainer.max_epochs alone is not known "
                "before its data; valid: steps (100), or trainer.max_tokens or max_steps beside it"
            )
        if initial % context_length or not 0 < initial <= trainer.batch_tokens:
            yield (
                f"trainer.initial_batch_tokens={initial}: must be a multiple of data.context_length={context_length}, and at most "
                f"trainer.batch_tokens={trainer.batch_tokens}"
            )
        elif not rest and initial // context_length < micro_batches(trainer, rows):
            yield (
                f"trainer.initial_batch_tokens={initial}: fewer rows than micro-batches; at least "
                f"{micro_batches(trainer, rows) * context_length} (one row each)"
            )
        if trainer.compile:
            yield (
                "trainer.compile=true: not with trainer.initial_batch_tokens: each size of a micro-batch would be compiled by itself; "
                "valid: one of the two"
            )
    if trainer.max_tokens is not None and not rest and trainer.max_tokens < trainer.batch_tokens:
        yield f"trainer.max_tokens={trainer.max_tokens}: less than one step, trainer.batch_tokens={trainer.batch_tokens}"


def _callback_problems(key: str, callback: dict[str, Any]) -> Iterator[str]:
    name = str(callback.get("_target_", ""))
    arguments = {part: value for part, value in callback.items() if part != "_target_"}
    takes = CALLBACK_ARGUMENTS.get(name.removeprefix(CALLBACKS)) if name.startswith(CALLBACKS) else None
    if takes is None:
        yield (
            f"{key}._target_={name or 'null'}: no callback of {CALLBACKS}* that a configuration may name; "
            f"valid: {', '.join(CALLBACK_ARGUMENTS)}"
        )
    elif unknown := [part for part in arguments if part not in takes and not part.startswith("_")]:
        yield f"{key}.{unknown[0]}={arguments[unknown[0]]}: no argument of {name.removeprefix(CALLBACKS)}; valid: {', '.join(takes)}"
    elif name.removeprefix(CALLBACKS) == "EarlyStopping" and not isinstance(arguments.get("monitor"), str):
        yield f"{key}.monitor: required, a metric that the run logs, e.g. val/target/loss"
    yield from _built_inside(key, arguments)


def _built_inside(key: str, value: Any) -> Iterator[str]:
    """Targets that Hydra would build among a callback's arguments, which are plain values here."""
    if isinstance(value, dict):
        for name, below in value.items():
            if str(name).startswith("_"):
                yield f"{key}.{name}={below}: arguments of a callback are plain values, nothing is built or called for them"
            yield from _built_inside(f"{key}.{name}", below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _built_inside(f"{key}[{index}]", below)


def strategy_problems(config: Config) -> Iterator[str]:
    """What cannot be sharded: optimizers that need whole matrices, and what keeps weights of its own."""
    if config.trainer.strategy != "fsdp2":
        return
    if config.optim.name != "adamw":
        yield f"optim.name={config.optim.name}: not with trainer.strategy=fsdp2, which spreads its matrices; valid: adamw (or strategy=ddp)"
    if config.optim.ema_decay is not None:
        yield f"optim.ema_decay={config.optim.ema_decay}: not with trainer.strategy=fsdp2; valid: null (or strategy=ddp)"
    if config.adapter.name != "none":
        yield f"adapter.name={config.adapter.name}: not with trainer.strategy=fsdp2; valid: none (or strategy=ddp)"


def ranks(trainer: TrainerConfig) -> int:
    """The processes that train a run together."""
    return trainer.devices * trainer.nodes


def micro_batches(trainer: TrainerConfig, rows: int) -> int:
    """Micro-batches of a step with these rows, over all ranks."""
    return rows // trainer.micro_batch_size if trainer.micro_batch_size else ranks(trainer)


def evaluation_problems(config: Config) -> Iterator[str]:
    """What a run that trains nothing needs."""
    if not any(getattr(config.data, section) for section in evaluation_sections(type(config.data))):
        wanted = {"lm_eval": "tasks=[TASK]"}
        sections = evaluation_sections(type(config.data))
        valid = ", ".join(f"data.{section}.<name>.{wanted.get(section, 'path=FILE')}" for section in sections)
        yield f"trainer.max_steps=0: nothing is trained, and there is nothing to evaluate on; give an evaluation set: {valid}"
    if config.trainer.strategy == "fsdp2":
        yield "trainer.strategy=fsdp2: not with trainer.max_steps=0, where every rank holds the whole model; valid: auto"


def trains(trainer: TrainerConfig) -> bool:
    """Whether the run trains; without a step it is only evaluated."""
    return trainer.max_steps != 0


def has_length(trainer: TrainerConfig) -> bool:
    """Whether the configuration says how long a run is."""
    return any(limit is not None for limit in (trainer.max_tokens, trainer.max_steps, trainer.max_epochs))


def planned_steps(trainer: TrainerConfig) -> int | None:
    """The steps of a run that trains, up to what padding leaves free, or fewer where trainer.max_epochs ends it before.

    None when the length itself is not valid, or follows from the data alone.
    """
    if not trains(trainer):
        return None
    in_tokens = None if trainer.max_tokens is None or trainer.batch_pairs is not None else trainer.max_tokens // trainer.batch_tokens
    limits = [trainer.max_steps, in_tokens]
    return min((limit for limit in limits if limit), default=None)


def token_bound(config: Config) -> int:
    """No plan of this configuration trains more tokens than this: what a study reserves before the data has been looked at.

    Raises InputError where the length is given in epochs alone, or in steps of so many pairs.
    """
    trainer = config.trainer
    if trainer.batch_pairs is not None and trainer.max_tokens is None:
        raise InputError(
            f"trainer.batch_pairs={trainer.batch_pairs}: how many tokens its steps have is not known before the data, and a study reserves "
            "the tokens of a trial before it looks at them; valid: beside it trainer.max_tokens"
        )
    in_steps = None if trainer.max_steps is None or trainer.batch_pairs is not None else trainer.max_steps * trainer.batch_tokens
    limits = [trainer.max_tokens, in_steps]
    given = [limit for limit in limits if limit is not None]
    if not given:
        raise InputError(
            f"trainer.max_epochs={trainer.max_epochs}: not alone in a study, which reserves the tokens of a trial before it looks at data; "
            "valid: beside it trainer.max_tokens or trainer.max_steps, what ends first counts"
        )
    return min(given)
