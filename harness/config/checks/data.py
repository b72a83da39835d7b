"""What sources, replay and validation sets must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from glob import has_magic

from harness.config.checks.model import pretrained_problems
from harness.config.errors import did_you_mean
from harness.config.locations import in_home
from harness.config.remote_path import is_remote
from harness.config.schema import (
    TASK_FILES,
    Config,
    DataConfig,
    GenerationConfig,
    PreferenceConfig,
    SourceConfig,
    ValidationConfig,
    each,
    evaluation_sections,
)
from harness.config.synth_path import is_made, recipe_of


def data_problems(data: DataConfig, *, trains: bool) -> Iterator[str]:
    """trains: whether the sources are trained on, or only hold validation documents."""
    if trains and not data.sources:
        yield "data.sources: no source to train on; give data.sources.<name>.path=FILE"
    for name, source in data.sources.items():
        yield from _made_problems(f"data.sources.{name}", source)
        yield from _path(f"data.sources.{name}.path", source.path)
    drawn = {name: source for name, source in data.sources.items() if source.weight > 0}
    replay = [name for name, source in drawn.items() if source.replay]
    for key, share in (("replay_share", data.replay_share), ("replay_share_end", data.replay_share_end or 0.0)):
        if share > 0 and not replay:
            yield f"data.{key}={share}: no source has .replay=true to draw it from"
    if trains and data.sources and len(replay) == len(drawn):
        yield "data.sources: every source has .replay=true or .weight=0; at least one must be the text to train onto"
    for domain, validation in data.validation.items():
        yield from _held_out_problems(f"data.validation.{domain}", validation, data)
    for name, preference in data.preference.items():
        yield from _preference_problems(f"data.preference.{name}", preference, data, trains=trains)
    for name, generation in data.generation.items():
        yield from _generation_problems(f"data.generation.{name}", generation)
    if data.mean_loss and "mean" in {**data.validation, **data.multiple_choice}:
        yield "data.mean_loss=true: logs val/mean/…, as the set of that name does; valid: another name for the set"
    if data.mean_loss and not data.validation:
        yield "data.mean_loss=true: there is no validation set to take the loss of; valid: false, or data.validation.<name>.path=FILE"
    if data.report_share and data.lm_eval:
        yield f"data.report_share={data.report_share}: tasks of lm_eval have no part for the report; valid: 0 beside data.lm_eval"
    for name, asked in data.lm_eval.items():
        yield from _path(f"data.lm_eval.{name}.tasks", [task for task in asked.tasks if task.endswith(TASK_FILES)])
    logged: dict[tuple[str, str], str] = {}
    for section, prefix in evaluation_sections(type(data)).items():
        for name, evaluated in getattr(data, section).items():
            key = f"data.{section}.{name}"
            if getattr(evaluated, "path", None) is not None:
                yield from _path(f"{key}.path", evaluated.path)
            other = logged.setdefault((prefix, name), key)
            if other != key:
                yield f"{key}: {other} has the same name, and both would log {prefix}/{name}/…; valid: another name"


def kl_problems(config: Config, *, trains: bool) -> Iterator[str]:
    """Whether there is a base to compare with, and text to do it on."""
    data, model = config.data, config.model
    if not data.kl:
        return
    if not data.validation:
        yield "data.kl=true: there is no validation set to compare on; valid: false, or data.validation.<name>.path=FILE"
    if model.merge.method is not None and model.merge.base is None:
        yield "data.kl=true: a merge is compared with its base; valid: model.merge.base=PATH, or false"
    if not trains and config.adapter.name == "none" and model.merge.method is None and model.checkpoint is None:
        yield "data.kl=true: nothing is changed in the model, it is its own base; valid: false, or an adapter, a merge or training"


def _held_out_problems(key: str, evaluated: ValidationConfig | PreferenceConfig, data: DataConfig) -> Iterator[str]:
    if (evaluated.path is None) == (evaluated.source is None):
        yield f"{key}: give either .path, or .source with .share"
    elif evaluated.path is None and evaluated.source not in data.sources:
        hint = did_you_mean(evaluated.source or "", data.sources)
        yield f"{key}.source={evaluated.source}: not one of data.sources ({', '.join(data.sources) or 'none'}).{hint}"
    if evaluated.source is not None and evaluated.share is None:
        yield f"{key}.share: required beside .source, the share of its documents to hold out, e.g. 0.05"
    if evaluated.source is None and evaluated.share is not None:
        yield f"{key}.share={evaluated.share}: only beside .source"


def _preference_problems(key: str, config: PreferenceConfig, data: DataConfig, *, trains: bool) -> Iterator[str]:
    yield from _held_out_problems(key, config, data)
    if config.source is not None:
        for name, given in (
            ("format", config.format != "auto"),
            ("rejected", config.rejected != "worst"),
            ("min_score_gap", config.min_score_gap),
        ):
            if given:
                yield f"{key}.{name}: not beside .source, which says it: data.sources.{config.source}.{name}"
    if config.reference is not None:
        yield from pretrained_problems(f"{key}.reference", config.reference, data.context_length)
    elif not trains:
        yield f"{key}.reference: required of a run that trains nothing, the model that its own was trained from"


def _generation_problems(key: str, config: GenerationConfig) -> Iterator[str]:
    for k in config.pass_at:
        if k > config.draws:
            yield f"{key}.pass_at={config.pass_at}: {k} of {key}.draws={config.draws} texts; valid: at most as many as are drawn"
    for name, texts in (("prompt", [config.prompt or ""]), ("stop", config.stop)):
        if any("\\n" in text for text in texts):
            # Hydra's quotes leave it as it is.
            yield f"{key}.{name}: holds a backslash and an n, which is no line break; valid: a line break, in bash $'…\\n…'"
    if config.pass_at and config.verifier is None:
        yield f"{key}.pass_at={config.pass_at}: nothing says when a text is right; valid: a {key}.verifier beside it"
    readers = {"pattern": "regex", "schema": "json_schema", "schema_path": "json_schema"}
    for name, reader in readers.items():
        if getattr(config, name) and config.verifier != reader:
            yield f"{key}.{name}: has no effect with {key}.verifier={config.verifier or 'null'}: only {reader} reads it"
    if config.schema and config.schema_path is not None:
        yield f"{key}.schema_path={config.schema_path}: not beside {key}.schema; give one of them"
    if config.reference is not None and config.verifier is None:
        yield f"{key}.reference={config.reference}: has no effect without a {key}.verifier"
    if config.schema_path is not None:
        yield from _path(f"{key}.schema_path", config.schema_path)


def _made_problems(key: str, source: SourceConfig) -> Iterator[str]:
    if isinstance(source.path, list) and any(map(is_made, source.path)):
        yield f"{key}.path={source.path}: data that are made are a source of their own; valid: one path, synth:RECIPE"
    elif is_made(each(source.path)[0]) and not recipe_of(each(source.path)[0]):
        yield f"{key}.path={source.path}: no recipe; valid: synth:RECIPE, a recipe's name or file"


def _path(key: str, paths: str | list[str]) -> Iterator[str]:
    for path in each(paths):
        if not is_remote(path) and not is_made(path) and not has_magic(path) and not in_home(path).exists():
            yield f"{key}={path}: no such file or directory"
