"""What a user's word for an ingredient of a merge stands for: a directory, a hub name, a run, or a LoRA adapter of one of these."""

from __future__ import annotations

from pathlib import Path

from harness.config.checks import check_model
from harness.config.checks.model import weights_problems
from harness.config.checks.trainer import trains
from harness.config.errors import InputError, wrong_value
from harness.config.load import load_file
from harness.merging.folder import folder_source
from harness.merging.lora import CONFIG, adapter_config, with_lora
from harness.merging.recipe import Recipe
from harness.merging.source import Source
from harness.models.hub import use_cache_without_network
from harness.runs.directory import RunDirectory, run_called

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt", "README.md")
MOST_DEEP = 8
"""Runs of runs of runs, and adapters of adapters."""


def sources_of(recipe: Recipe) -> dict[str, Source]:
    """The models of a recipe by their names in it; of their weights the headers alone are read. Raises InputError."""
    found: dict[str, Source] = {}
    sources: dict[str, Source] = {}
    for name, word in recipe.words.items():
        if word not in found:
            found[word] = ingredient(word, key=recipe.keys[name])
        sources[name] = found[word]
    return sources


def ingredient(word: str, *, key: str, depth: int = 0) -> Source:
    """What `word`, given in the configuration's `key`, stands for. Raises InputError for what cannot be merged."""
    if depth > MOST_DEEP:
        raise wrong_value(key, word, f"a model of a model, {depth} deep; valid: export it first")
    folder = Path(word).expanduser()
    base, plus, adapter = word.partition("+")
    if plus and base and not folder.exists() and _run_called(word) is None:
        return with_lora(ingredient(base, key=key, depth=depth + 1), _adapter_folder(adapter, key), key=key)
    if (folder / "config.json").is_file():
        _refuse(weights_problems(key, word))
        return folder_source(folder, word, key=key)
    if (folder / CONFIG).is_file():
        return with_lora(_base_of(folder, key, depth), folder, key=key)
    if (found := _run_called(word)) is not None:
        run, step = found
        return _run(run, word, key=key, depth=depth, step=step)
    if folder.is_dir():
        _refuse(weights_problems(key, word))  # it is no model's
    return _from_hub(word, key=key, depth=depth)


def _run_called(word: str) -> tuple[RunDirectory, int | None] | None:
    """The run, and the step of RUN@STEP, that a word names; None of other words."""
    if (run := run_called(word)) is not None:
        return run, None
    name, at, step = word.rpartition("@")
    run = run_called(name) if at and step.isdigit() else None
    return None if run is None else (run, int(step))


def _base_of(folder: Path, key: str, depth: int) -> Source:
    word = adapter_config(folder, key=key).get("base_model_name_or_path")
    if not isinstance(word, str) or not word:
        raise wrong_value(key, folder, f"its {CONFIG} names no base model; valid: BASE+{folder}")
    return ingredient(word, key=key, depth=depth + 1)


def _adapter_folder(word: str, key: str) -> Path:
    folder = Path(word).expanduser()
    if not folder.is_dir():
        folder = _downloaded(word, key=key)
    if not (folder / CONFIG).is_file():
        raise wrong_value(key, word, f"no adapter, no {CONFIG} in it")
    return folder


def _run(run: RunDirectory, word: str, *, key: str, depth: int, step: int | None = None) -> Source:
    """step: of a checkpoint before the last."""
    config = load_file(run.config, checked_by=check_model)
    frame = config.model.frame
    if not trains(config.trainer):
        if config.model.path is not None and config.model.checkpoint is None:
            return ingredient(config.model.path, key=key, depth=depth + 1)
        itself = "" if config.model.merge.method is None else f"; or first: harness merge OUT {word}"
        valid = f"valid: what it was made of, or a run that trained{itself}"
        raise wrong_value(key, word, f"it trained nothing, and has no weights of its own; {valid}")
    from harness.models.run_source import run_source

    stored = None if frame is None else ingredient(frame[1], key=key, depth=depth + 1)
    return run_source(run, word, key=key, stored=stored, step=step)


def _from_hub(word: str, *, key: str, depth: int) -> Source:
    folder = _downloaded(word, key=key)
    if (folder / "config.json").is_file():
        _refuse(weights_problems(key, str(folder)))
        return folder_source(folder, word, key=key)
    if (folder / CONFIG).is_file():
        return with_lora(_base_of(folder, key, depth), folder, key=key)
    raise wrong_value(key, word, "no model and no adapter on the hub")


def _downloaded(word: str, *, key: str) -> Path:
    """The files of a hub name, NAME or NAME@REVISION, in the hub's cache."""
    from huggingface_hub import snapshot_download

    name, _, revision = word.partition("@")
    use_cache_without_network(name, key=key)
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # what a network, a cache and a name can do to the library
        valid = "valid: a model's directory, a hub name, a run, or an adapter's directory"
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise wrong_value(key, word, f"no such directory or run, and nothing of that name from the hub ({said[:200]}); {valid}") from error


def _refuse(problems: object) -> None:
    found = list(problems)  # type: ignore[call-overload]
    if found:
        raise InputError("\n".join(found))
