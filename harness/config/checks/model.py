"""What model, tokenizer and context must agree on. Looks at files' existence and at config.json."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.config.checks.merge import merge_problems, merged_paths
from harness.config.documents import as_mapping, read_json
from harness.config.remote_code import remote_code_problems
from harness.config.schema import Config, ModelConfig
from harness.config.trust import linked_text
from harness.runs.git_lfs import git_lfs_problem

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""By family: most; gpt2, gptj, codegen and others of their time; mpt. Models of text and pictures have theirs in text_config."""
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")


def model_problems(model: ModelConfig, tokenizer: str | None, context_length: int, *, prompt: int = 0) -> Iterator[str]:
    """prompt: length of the soft prompt, which precedes whole windows in evaluation."""
    if tokenizer is not None:
        yield from _directory("tokenizer.path", tokenizer, ("tokenizer.json", "tokenizer.model"), "no tokenizer.json in it")
    yield from merge_problems(model)
    frame = model.frame
    if frame is None:
        if tokenizer is None:
            yield "tokenizer.path: required for a model from scratch (model.path is null)"
        if model.hidden_size % model.heads:
            yield f"model.heads={model.heads}: must divide model.hidden_size={model.hidden_size}"
        if model.kv_heads is not None and model.heads % model.kv_heads:
            yield f"model.kv_heads={model.kv_heads}: must divide model.heads={model.heads}"
        if context_length + prompt > model.max_context:
            yield f"{_given(context_length, prompt)}: longer than the model's context, model.max_context={model.max_context}"
    elif model.path is not None:
        yield from pretrained_problems("model.path", model.path, context_length, prompt)
    else:
        yield from _context_problems(frame[1], context_length, prompt)
        # Other words are runs, adapters or names of the hub, which are looked at when they are opened.
        for key, path in merged_paths(model.merge).items():
            if (Path(path) / "config.json").is_file():
                yield from weights_problems(key, path)


def attention_problems(config: Config) -> Iterator[str]:
    attention, dropout = config.model.attention, config.model.attention_dropout
    if attention == "flash_attention_2" and config.data.packing != "padded":
        yield (
            f"model.attention=flash_attention_2: not with data.packing={config.data.packing}, whose rows of several documents it would "
            "read as one document each; valid: auto, varlen, sdpa, eager, flex_attention (or data.packing=padded)"
        )
    if attention in ("varlen", "flex_attention") and dropout:
        yield f"model.attention_dropout={dropout}: not with model.attention={attention}, which has none; valid: 0, or attention=sdpa"
    if attention == "varlen" and config.data.isolation == "mask":
        yield "data.isolation=mask: not with model.attention=varlen, which has no use for one; valid: auto, position_ids"
    if attention == "flex_attention" and config.trainer.accelerator == "cpu":
        yield "model.attention=flex_attention: has no backward pass on a CPU (trainer.accelerator=cpu); valid: auto, varlen, sdpa, eager"
    if config.model.liger:
        if find_spec("liger_kernel") is None:
            yield "model.liger=true: needs liger-kernel, which is not installed: pip install 'harness[liger]'"
        if config.trainer.accelerator in ("cpu", "mps"):
            yield f"model.liger=true: its kernels run on a GPU only (trainer.accelerator={config.trainer.accelerator}); valid: false"


def pretrained_problems(key: str, path: str, context_length: int, prompt: int = 0) -> Iterator[str]:
    """What keeps the model at `path`, given in `key`, from being loaded and reading rows of this length after a soft prompt."""
    yield from weights_problems(key, path)
    yield from _context_problems(path, context_length, prompt)


def weights_problems(key: str, path: str) -> Iterator[str]:
    """What keeps the model at `path`, given in `key`, from being loaded."""
    yield from _directory(key, path, WEIGHT_FILES, "no weights in it (*.safetensors or pytorch_model*.bin)")


def _context_problems(path: str, context_length: int, prompt: int) -> Iterator[str]:
    longest = _pretrained_context(Path(path))
    if longest is not None and context_length + prompt > longest:
        fits = f"; valid: at most {longest - prompt}, as in data.context_length={longest - prompt}" if longest > prompt else ""
        problem = f"longer than the model's context of {longest} tokens ({path}/config.json){fits}"
        yield f"{_given(context_length, prompt)}: {problem}"


def _given(context_length: int, prompt: int) -> str:
    return f"data.context_length={context_length}" + (f" and adapter.tokens={prompt} together" if prompt else "")


def _may_be_hub_name(path: str) -> bool:
    """Whether a path may be a hub name, such as gpt2 or owner/model: neither it nor its parent is a directory."""
    if not HUB_NAME.fullmatch(path) or Path(path).exists():
        return False
    return "/" not in path or not Path(path).parent.is_dir()


def _directory(key: str, path: str, patterns: tuple[str, ...], problem: str) -> Iterator[str]:
    if _may_be_hub_name(path):
        return
    folder = Path(path)
    if not folder.is_dir():
        yield f"{key}={path}: no such directory"
    elif patterns is WEIGHT_FILES and not (folder / "config.json").is_file():
        adapter = f"; an adapter: `harness merge OUT BASE+{path}` makes a model of it" if (folder / "adapter_config.json").is_file() else ""
        run = f"; a run: `harness export {path} OUT` writes its model" if (folder / "config.yaml").is_file() else ""
        yield f"{key}={path}: not a model directory, no config.json in it{adapter or run}"
    elif not any(True for pattern in patterns for _ in folder.glob(pattern)):
        yield f"{key}={path}: {problem}"
    elif linked := linked_text(folder):
        yield f"{key}={path}: {linked}"
        return
    for file in sorted({file for pattern in ("*.json", *patterns) for file in folder.glob(pattern)}):
        if pointer := git_lfs_problem(file):
            yield f"{key}={path}: {pointer}"
            return
    if patterns is WEIGHT_FILES:
        yield from _borrowed_weights(key, folder)
    yield from remote_code_problems(key, path)


def _borrowed_weights(key: str, folder: Path) -> Iterator[str]:
    """Weights that a model directory does not hold itself: a stranger's could mean any file, and no fingerprint would see it."""
    if (folder / "adapter_config.json").is_file() and (folder / "config.json").is_file():
        yield f"{key}={folder}: its adapter_config.json names another model, which would be loaded; valid: a model that was saved whole"
    for index in folder.glob("*.index.json"):
        weights = as_mapping(read_json(index), index).get("weight_map")
        shards = set(map(str, weights.values())) if isinstance(weights, Mapping) else set()
        outside = sorted(shard for shard in shards if Path(shard).name != shard)
        if outside:
            yield f"{key}={folder}: {index.name} names {outside[0]}; valid: files of this directory alone"
        elif index.name == _index_in_use(folder) and (absent := sorted(shard for shard in shards if not (folder / shard).is_file())):
            count = f"{len(absent)} of its {len(shards)} files are" if len(absent) > 1 else f"{absent[0]} is"
            yield f"{key}={folder}: {count} not there, which {index.name} names: a copy or a download that was not finished"


def _index_in_use(folder: Path) -> str | None:
    """The index that transformers reads, if any: one that a download has left out the files of may lie beside."""
    for whole in ("model.safetensors", "pytorch_model.bin"):
        if (folder / whole).is_file():
            return None
        if (folder / f"{whole}.index.json").is_file():
            return f"{whole}.index.json"
    return None


def _pretrained_context(folder: Path) -> int | None:
    values = _pretrained_values(folder)
    return None if values is None else longest_context(values)


def _pretrained_values(folder: Path) -> Mapping[str, Any] | None:
    """Its config.json; None of a hub name."""
    path = folder / "config.json"
    try:
        return as_mapping(read_json(path), path)
    except OSError:
        return None


def longest_context(values: Mapping[str, Any]) -> int | None:
    """The longest text, in tokens, that a model of this config.json reads; None where it sets no limit."""
    return _count(values, CONTEXT_KEYS)


def layers_of(model: ModelConfig) -> int | None:
    """How many blocks a model has; None where its config.json is not on this machine, or does not say."""
    if model.frame is None:
        return model.layers
    values = _pretrained_values(Path(model.frame[1]))
    return None if values is None else _count(values, LAYER_KEYS)


def _count(values: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """A number that is called by one of the names, of a model with several parts that of its text part."""
    text = values.get("text_config")
    inner = _count(text, names) if isinstance(text, dict) else None
    return inner or next((value for name in names if isinstance(value := values.get(name), int) and value > 0), None)
