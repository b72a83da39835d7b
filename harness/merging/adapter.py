"""A merge as a LoRA adapter of its base: the exact sum of adapters, or the nearest one of a rank to what was merged, or to one model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config.errors import InputError
from harness.config.merge_methods import METHODS
from harness.merging.card import merge_card
from harness.merging.layers import Layers, is_of_vocabulary, is_transposed, layers_of
from harness.merging.lora import CONFIG, PREFIX, WEIGHTS
from harness.merging.low_rank import Factors, nearest_factors
from harness.merging.methods.build import merged_rows
from harness.merging.operands import Floats
from harness.merging.plan import Plan, Target
from harness.merging.safetensors_files import header_of
from harness.merging.source import LowRank, Source
from harness.merging.write import Progress, copy_tokenizer, new_directory, refuse_used
from harness.runs.files import write_json, write_text

EXPERTS = ".experts."
"""Of a mixture, which loaders put into one tensor that an adapter has no name for."""
FACTORS = ("lora_A", "lora_B")


@dataclass(frozen=True)
class AdapterSummary:
    """What was written."""

    rank: int
    modules: int
    """Matrices with an update."""
    share: float
    """Of the squares of all changes from the base, those that the adapter holds; 1 of an exact sum."""


@dataclass(frozen=True)
class AdapterPlan:
    """An adapter that can be made."""

    plan: Plan
    rank: int
    exact: bool
    """Whether it is the sum of adapters, with nothing cut off."""
    base: Source
    path: str
    """Where others find the base: a directory's absolute path, or a hub name."""
    transposed: bool
    candidates: tuple[Target, ...]
    """Matrices that an adapter may update."""


def plan_adapter(plan: Plan, *, rank: int | None) -> AdapterPlan:
    """rank: at most; None: that of the exact sum. Raises InputError for a merge that is no adapter of its base."""
    recipe = plan.recipe
    if recipe.base is None or METHODS[recipe.method].base != "required":
        valid = ", ".join(name for name, facts in METHODS.items() if facts.base == "required")
        raise InputError(f"--adapter: {recipe.method} makes no change of a base; valid: {valid}")
    if recipe.scope == "model" or any(part.layers for one in recipe.slices for part in one.parts):
        raise InputError("--adapter: not with scope=model, nor with layer_range; valid: a merge of each tensor by itself")
    if plan.added_tokens:
        raise InputError("--adapter: not with tokenizer.source=union, whose tokens the base has no rows for; valid: base")
    base = plan.sources[recipe.base]
    if not base.is_whole or base.folder is None:
        raise InputError(f"--adapter: the base {base.label} is no model that an adapter could name; valid: a directory or a hub name")
    layers = layers_of(base.tensors)
    candidates = tuple(target for target in plan.targets if _is_candidate(target, layers) or any(_updates(plan, target)))
    ranks = [sum(update.down.shape[0] for _, update in _updates(plan, target)) for target in candidates]
    exact = recipe.method == "task_arithmetic" and all(_is_of(plan.sources[part.model], base) for part in recipe.slices[0].parts)
    if rank is None and not exact:
        others = [plan.sources[part.model].label for part in recipe.slices[0].parts if not _is_of(plan.sources[part.model], base)]
        what = f"{others[0]} is no LoRA of {base.label}" if others else f"{recipe.method} does not keep the rank of what it merges"
        raise InputError(f"--rank: required, since {what}, whose exact sum could be written; valid: --rank 16, say")
    whole = max(ranks, default=0)
    exact = exact and (rank is None or rank >= whole)
    if exact and whole == 0:
        raise InputError(f"--adapter: no ingredient changes {base.label}; valid: LoRA adapters of it")
    path = str(base.folder.resolve()) if Path(base.label).expanduser().is_dir() else base.label
    return AdapterPlan(plan, whole if exact or rank is None else rank, exact, base, path, is_transposed(base.config), candidates)


def write_adapter(made: AdapterPlan, out: Path, *, progress: Progress | None = None) -> AdapterSummary:
    """Write the adapter for peft to the directory `out`, all of it or nothing. Raises InputError as `write_merge` does."""
    refuse_used(out)
    with new_directory(out) as directory:
        modules, kept, squares = _write_factors(made, directory / WEIGHTS, progress)
        if not modules:
            raise InputError(f"--adapter: nothing in the layers of {made.base.label} is changed by the merge")
        share = 1.0 if made.exact else kept / squares
        summary = AdapterSummary(made.rank, len(modules), share)
        write_json(directory / CONFIG, _config(made, modules))
        copy_tokenizer(made.plan, directory)
        write_text(directory / "README.md", merge_card(made.plan, adapter=_told(made, summary)))
    return summary


def _write_factors(made: AdapterPlan, path: Path, progress: Progress | None) -> tuple[list[str], float, float]:
    """Names of the modules that got an update, and the squares that are kept, of how many."""
    candidates = {target.name for target in made.candidates}
    everything = [target for target in made.plan.targets if target.operands is not None]
    # Which matrices change is known at the end; until then there is room for the header of all.
    room = len(header_of(_entry(name, shape) for target in made.candidates for name, shape in _shapes(target, made)))
    entries: list[tuple[str, tuple[int, ...]]] = []
    modules: list[str] = []
    kept = squares = 0.0
    done, total = 0, sum(target.bytes for target in everything)
    with path.open("xb") as stream:
        stream.write(bytes(room))
        for target in everything:
            if target.name not in candidates:
                squares += (
                    0.0 if made.exact else sum(float(np.square(block, dtype=np.float64).sum()) for _, block in _changes(made, target))
                )
            elif (factors := _exact(made, target) if made.exact else _nearest(made, target)) is not None:
                squares, kept = squares + factors.squares, kept + factors.kept
                modules.append(target.name.removesuffix(".weight"))
                for (name, shape), values in zip(_shapes(target, made), _padded(made, factors), strict=True):
                    entries.append((name, shape))
                    stream.write(values.astype("<f4").tobytes())
            done += target.bytes
            if progress is not None:
                progress(done, total)
        stream.seek(0)
        stream.write(header_of((_entry(*entry) for entry in entries), size=room))
    return modules, kept, squares


def _entry(name: str, shape: tuple[int, ...]) -> tuple[str, str, tuple[int, ...], int]:
    return name, "F32", shape, 4 * shape[0] * shape[1]


def _shapes(target: Target, made: AdapterPlan) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the factors A and B."""
    out_side, in_side = target.dimensions[::-1] if made.transposed else target.dimensions
    module = f"{PREFIX}{target.name.removesuffix('.weight')}"
    for factor, shape in zip(FACTORS, ((made.rank, in_side), (out_side, made.rank)), strict=True):
        yield f"{module}.{factor}.weight", shape


def _exact(made: AdapterPlan, target: Target) -> Factors | None:
    """Factors of all updates, one under or beside the other, B with weight and scaling in it."""
    updates = list(_updates(made.plan, target))
    if not updates:
        return None
    down = np.concatenate([update.down.read(0, update.down.shape[0]) for _, update in updates])
    up = np.concatenate([np.float32(factor * update.scaling) * update.up.read(0, update.up.shape[0]) for factor, update in updates], axis=1)
    return Factors(up, down, 0.0, 0.0)


def _nearest(made: AdapterPlan, target: Target) -> Factors | None:
    rows, columns = target.dimensions
    found = nearest_factors(lambda: _changes(made, target), (rows, columns), made.rank)
    if found.squares == 0.0:
        return None
    return Factors(found.down.T, found.up.T, found.squares, found.kept) if made.transposed else found


def _padded(made: AdapterPlan, factors: Factors) -> tuple[Floats, Floats]:
    """A and B, with zeros up to the rank that all have."""
    missing = made.rank - len(factors.down)
    return np.pad(factors.down, ((0, missing), (0, 0))), np.pad(factors.up, ((0, 0), (0, missing)))


def _updates(plan: Plan, target: Target) -> Iterator[tuple[float, LowRank]]:
    """What the ingredients' adapters add to a tensor, each with what it is multiplied by in task arithmetic."""
    if target.operands is None:
        return
    ingredients = target.operands.ingredients
    divisor = sum(one.weight for one in ingredients) if target.options.normalize else 1.0
    for one in ingredients:
        updates = plan.sources[one.name].updates
        if updates is not None and target.name in updates.by_tensor:
            yield target.options.scale * one.weight / divisor, updates.by_tensor[target.name]


def _changes(made: AdapterPlan, target: Target) -> Iterator[tuple[int, Floats]]:
    """First row and difference of the merge from the base, block by block."""
    operands = target.operands
    assert operands is not None, "only of what is merged"
    assert operands.base is not None, "checked: the method has a base"
    for (start, stop), block in zip(operands.spans(), merged_rows(made.plan.recipe.method, operands, target.options), strict=True):
        change: Floats = block - operands.base.read(start, stop)
        if not np.isfinite(change).all():
            raise InputError(f"{target.name}: its change holds NaN or infinite values; valid: whole weight files")
        yield start, change


def _is_candidate(target: Target, layers: Layers) -> bool:
    is_matrix = target.operands is not None and len(target.dimensions) == 2 and target.name.endswith(".weight")
    return is_matrix and layers.number(target.name) is not None and not is_of_vocabulary(target.name) and EXPERTS not in target.name


def _is_of(source: Source, base: Source) -> bool:
    """Whether it is the base with an adapter, or the base itself."""
    return source.fingerprint == base.fingerprint or (source.updates is not None and source.updates.base == base.fingerprint)


def _config(made: AdapterPlan, modules: list[str]) -> dict[str, Any]:
    """adapter_config.json. alpha is the rank, so that the update is B A as it stands."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": made.path,
        "inference_mode": True,
        "r": made.rank,
        "lora_alpha": made.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": made.transposed,
        "target_modules": _targets(made, modules),
    }


def _targets(made: AdapterPlan, modules: list[str]) -> list[str]:
    """The last words of the modules' names where all modules of these words are meant, else the names."""
    words = {module.rpartition(".")[2] for module in modules}
    meant = [target.name for target in made.candidates if target.name.removesuffix(".weight").rpartition(".")[2] in words]
    return sorted(words) if len(meant) == len(modules) else modules


def _told(made: AdapterPlan, summary: AdapterSummary) -> str:
    if made.exact:
        return f"A LoRA of rank {summary.rank}: the exact sum of its ingredients' updates."
    return f"A LoRA of rank {summary.rank}, which holds {summary.share:.1%} of what the merge changes (in squares)."
