"""What several keys must agree on, checked before any work starts. Cheap: looks at files' existence, never at their content."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from glob import has_magic
from pathlib import Path

from harness.config.errors import InputError, nearest, wrong_value
from harness.config.introspect import find
from harness.config.length import Length, parse_length
from harness.config.schema import Config, DataConfig, ModelConfig, TrainerConfig

CALLBACKS = "lightning.pytorch.callbacks."
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin", "*.gguf")


def check(config: Config) -> None:
    """Raise InputError, one line a problem, for combinations that cannot work."""
    _refuse([*_input(config), *_trainer(config.trainer, config.data.context_length), *_schedule(config)])


def check_input(config: Config) -> None:
    """Like `check`, but of text, tokenizer and model alone: no run has to be described to look at its data."""
    _refuse([*_input(config)])


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError("\n".join(problems))


def _input(config: Config) -> Iterator[str]:
    yield from _model(config.model, config.tokenizer.path, config.data.context_length)
    yield from _data(config.data)


def check_explicit(config: Config, keys: set[str]) -> None:
    """Refuse an explicit value that its kind never reads: `schedule=cosine schedule.decay_fraction=0.3` is a mistake."""
    for key in sorted(keys):
        item = find(Config, key)
        if item is None or not item.only_for:
            continue
        group = item.chooser(key)
        kind = getattr(getattr(config, group), "name", None)
        if kind not in item.only_for:
            raise InputError(f"{key} has no effect with {group}.name={kind}: only {', '.join(item.only_for)} reads it")


def _model(model: ModelConfig, tokenizer: str | None, context_length: int) -> Iterator[str]:
    if tokenizer is not None:
        yield from _directory("tokenizer.path", tokenizer, ("tokenizer.json", "tokenizer.model"), "no tokenizer.json in it")
    if model.path is None:
        if tokenizer is None:
            yield "tokenizer.path: required for a model from scratch (model.path is null)"
        if model.hidden_size % model.heads:
            yield f"model.heads={model.heads}: must divide model.hidden_size={model.hidden_size}"
        if model.kv_heads is not None and model.heads % model.kv_heads:
            yield f"model.kv_heads={model.kv_heads}: must divide model.heads={model.heads}"
        if context_length > model.max_context:
            yield f"data.context_length={context_length}: longer than the model's context, model.max_context={model.max_context}"
        return
    yield from _directory("model.path", model.path, WEIGHT_FILES, "no weights in it (*.safetensors or pytorch_model*.bin)")
    longest = _pretrained_context(Path(model.path))
    if longest is not None and context_length > longest:
        yield f"data.context_length={context_length}: longer than the model's context of {longest} tokens ({model.path}/config.json)"


def _looks_local(path: str) -> bool:
    """Whether a path is meant as a directory and not as a hub name such as org/model."""
    return path.startswith((".", "/", "~")) or path.count("/") != 1 or Path(path).exists() or Path(path).parent.is_dir()


def _directory(key: str, path: str, patterns: tuple[str, ...], problem: str) -> Iterator[str]:
    if not _looks_local(path):
        return
    folder = Path(path)
    if not folder.is_dir():
        yield f"{key}={path}: no such directory"
    elif key == "model.path" and not (folder / "config.json").is_file():
        yield f"{key}={path}: not a model directory, no config.json in it"
    elif not any(True for pattern in patterns for _ in folder.glob(pattern)):
        yield f"{key}={path}: {problem}"


def _pretrained_context(folder: Path) -> int | None:
    try:
        value = json.loads((folder / "config.json").read_bytes()).get("max_position_embeddings")
    except (OSError, ValueError):
        return None  # a hub name, or a file that transformers will report on
    return value if isinstance(value, int) else None


def _data(data: DataConfig) -> Iterator[str]:
    if not data.sources:
        yield "data.sources: no source to train on; give data.sources.<name>.path=FILE"
    for name, source in data.sources.items():
        yield from _path(f"data.sources.{name}.path", source.path)
    replay = [name for name, source in data.sources.items() if source.replay]
    if data.replay_share > 0 and not replay:
        yield f"data.replay_share={data.replay_share}: no source has .replay=true to draw it from"
    if data.sources and len(replay) == len(data.sources):
        yield "data.sources: every source has .replay=true; at least one must be the text to train onto"
    for domain, validation in data.validation.items():
        key = f"data.validation.{domain}"
        if (validation.path is None) == (validation.source is None):
            yield f"{key}: give either .path, or .source with .share"
        elif validation.path is not None:
            yield from _path(f"{key}.path", validation.path)
        elif validation.source not in data.sources:
            guess = nearest(validation.source or "", data.sources)
            hint = f" Did you mean {guess!r}?" if guess else ""
            yield f"{key}.source={validation.source}: not one of data.sources ({', '.join(data.sources) or 'none'}).{hint}"
        if validation.source is not None and validation.share is None:
            yield f"{key}.share: required beside .source, the share of its documents to hold out, e.g. 0.05"
        if validation.source is None and validation.share is not None:
            yield f"{key}.share={validation.share}: only beside .source"


def _path(key: str, path: str) -> Iterator[str]:
    if not has_magic(path) and not Path(path).expanduser().exists():
        yield f"{key}={path}: no such file or directory"


def _trainer(trainer: TrainerConfig, context_length: int) -> Iterator[str]:
    if trainer.max_tokens is None and trainer.max_steps is None:
        yield "trainer.max_tokens: required, the length of the run, e.g. trainer.max_tokens=2e6 (or in steps: trainer.max_steps=1000)"
    rows, rest = divmod(trainer.batch_tokens, context_length)
    if rest:
        multiple = max(1, round(trainer.batch_tokens / context_length)) * context_length
        yield f"trainer.batch_tokens={trainer.batch_tokens}: must be a multiple of data.context_length={context_length}, e.g. {multiple}"
    elif rows % (trainer.micro_batch_size or 1):
        yield (
            f"trainer.micro_batch_size={trainer.micro_batch_size}: must divide the {rows} rows of a batch "
            "(trainer.batch_tokens / data.context_length)"
        )
    if trainer.max_tokens is not None and not rest and trainer.max_tokens < trainer.batch_tokens:
        yield f"trainer.max_tokens={trainer.max_tokens}: less than one step, trainer.batch_tokens={trainer.batch_tokens}"
    for key, callback in trainer.callbacks.items():
        name = str(callback.get("_target_", ""))
        if not name.startswith(CALLBACKS):
            yield f"trainer.callbacks.{key}._target_={name or 'null'}: only classes of {CALLBACKS}* are built from a configuration"


def _schedule(config: Config) -> Iterator[str]:
    warmup = parse_length("schedule.warmup", config.schedule.warmup)
    steps = planned_steps(config.trainer)
    if steps is not None:
        yield from schedule_problems(config, warmup, steps)


def planned_steps(trainer: TrainerConfig) -> int | None:
    """The steps of the run, up to what padding leaves free; None when the length itself is not valid."""
    limits = [trainer.max_steps, None if trainer.max_tokens is None else trainer.max_tokens // trainer.batch_tokens]
    return min((limit for limit in limits if limit), default=None)


def schedule_problems(config: Config, warmup: Length, steps: int) -> Iterator[str]:
    """What is wrong with a schedule over `steps` steps."""
    length = warmup.steps(total_steps=steps, batch_tokens=config.trainer.batch_tokens)
    if length > steps:
        yield f"schedule.warmup={config.schedule.warmup}: the warm-up of {length} steps exceeds the run's {steps} steps"
    elif config.schedule.name == "wsd" and length + round(config.schedule.decay_fraction * steps) > steps:
        yield (
            f"schedule.decay_fraction={config.schedule.decay_fraction}: with the warm-up of {length} steps (schedule.warmup="
            f"{config.schedule.warmup}) it exceeds the run's {steps} steps"
        )


def token_bound(config: Config) -> int:
    """No plan of this configuration trains more tokens than this: what a study reserves before the data has been looked at."""
    trainer = config.trainer
    limits = [trainer.max_tokens, None if trainer.max_steps is None else trainer.max_steps * trainer.batch_tokens]
    return min(limit for limit in limits if limit is not None)


def check_writable(path: Path, what: str) -> None:
    """Raise InputError unless files can be made in the directory `path`, which is made if it is absent."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise wrong_value(what, path, f"cannot be written: {error.strerror}") from error
