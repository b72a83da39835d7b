"""From a recipe and the headers of its models to what is read and written: all that can be wrong is found here, before a weight is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.config.errors import InputError
from harness.merging.compatible import config_problems, source_problems
from harness.merging.layers import EMBEDDING, HEAD, RECOMPUTED, Layers, embedding_of, head_of, is_of_vocabulary, layers_of, with_layers
from harness.merging.operands import BLOCK_ELEMENTS, Operand, Operands, Rows
from harness.merging.options import Options
from harness.merging.random_masks import Noise
from harness.merging.recipe import Part, Place, Recipe, Slice, value_at
from harness.merging.source import EXACT_BYTES, FLOAT_BYTES, TORCH_NAMES, Column, Source, Tensor
from harness.merging.union import tokens_of_others
from harness.merging.vocabulary import AlignedRows, Ids, OwnersMean, own_rows, refuse_other_vocabulary

SHOWN = 3
"""Names in a message."""
SMALLEST_SUM = 1e-8
"""Of weights that are divided by."""
STORED = {name: stored for stored, name in TORCH_NAMES.items()}


@dataclass(frozen=True)
class Target:
    """A tensor of the result."""

    name: str
    dtype: str
    """As safetensors names it."""
    dimensions: tuple[int, ...]
    sources: tuple[tuple[Source, Tensor], ...]
    """Of the base, if there is one, and of the ingredients: all that are read."""
    operands: Operands | None
    """None of what is no number to be merged, which is the same in all models."""
    options: Options

    @property
    def item_bytes(self) -> int:
        return {**FLOAT_BYTES, **EXACT_BYTES}[self.dtype]

    @property
    def bytes(self) -> int:
        return self.item_bytes * math.prod(self.dimensions)


@dataclass(frozen=True)
class Plan:
    """A merge that can be made."""

    recipe: Recipe
    sources: Mapping[str, Source]
    targets: tuple[Target, ...]
    """In the order in which they are merged and written: the widest types first, so that every tensor of a file begins at a multiple."""
    config: Mapping[str, Any]
    """config.json of the result."""
    frame: Source
    tokens: Source
    """Whose tokenizer it has."""
    added_tokens: tuple[Mapping[str, Any], ...]
    """What that gets besides, of other models: as of `tokens_of_others`."""
    notes: tuple[str, ...]
    """What a reader should know."""

    @property
    def bytes(self) -> int:
        return sum(target.bytes for target in self.targets)

    @property
    def bytes_read(self) -> int:
        """Of one pass over all that is merged."""
        sizes = {**FLOAT_BYTES, **EXACT_BYTES}
        return sum(sizes[tensor.dtype] * math.prod(tensor.dimensions) for target in self.targets for _, tensor in target.sources)


def plan_merge(recipe: Recipe, sources: Mapping[str, Source], *, block_elements: int = BLOCK_ELEMENTS) -> Plan:
    """What a recipe makes of these models, by their names in it. Raises InputError, one line a problem, for what cannot be merged."""
    frame = sources[recipe.frame]
    tokens = sources[recipe.tokens or recipe.frame]
    used = {recipe.frame: frame, **sources}
    _refuse([problem for source in used.values() for problem in source_problems(source)])
    _refuse([problem for source in used.values() if source is not frame for problem in config_problems(frame, source)])
    _Layout(recipe, sources).refuse_missing_layers()
    added = tokens_of_others(frame, [source for source in sources.values() if source is not frame]) if recipe.unites_tokens else ()
    if added:
        tokens = replace(frame, vocabulary={**(frame.vocabulary or {}), **{entry["content"]: entry["id"] for entry in added}})
    return _Planner(recipe, sources, frame, tokens, added, block_elements).plan()


class _Layout:
    """Which tensors of which models every tensor of the result is made of."""

    def __init__(self, recipe: Recipe, sources: Mapping[str, Source]) -> None:
        self.recipe, self.sources = recipe, sources
        self.layers = {name: layers_of(source.tensors) for name, source in sources.items()}
        self.frame_layers = self.layers[recipe.frame]

    def refuse_missing_layers(self) -> None:
        problems = []
        for part in self._parts():
            count = self.layers[part.model].count
            if part.layers is not None and not 0 <= part.layers[0] < part.layers[1] <= count:
                label = self.sources[part.model].label
                problems.append(f"layer_range={list(part.layers)}: {label} has {count} layers; valid: [0, {count}] or a part of it")
        for one in self.recipe.slices:
            lengths = {
                part.layers[1] - part.layers[0] for part in (*one.parts, *([one.base] if one.base else [])) if part.layers is not None
            }
            if len(lengths) > 1:
                problems.append(f"layer_range: a slice has parts of {' and '.join(map(str, sorted(lengths)))} layers; valid: of one length")
        _refuse(problems)

    def _parts(self) -> Iterator[Part]:
        for one in self.recipe.slices:
            yield from one.parts
            if one.base is not None:
                yield one.base

    def numbers(self) -> list[int]:
        """For every layer of the result the frame's layer, or the one of the first part, whose settings in lists by layer it takes."""
        found: list[int] = []
        for one in self.recipe.slices:
            part = one.base or one.parts[0]
            first, stop = part.layers or (0, self.layers[part.model].count)
            found += range(first, stop)
        return found

    def entries(self, names: Sequence[str]) -> Iterator[tuple[str, str, Slice, Place]]:
        """Of every tensor of the result: its name, the frame's name of it, the slice, and the place in it."""
        last = self.recipe.slices[-1]
        for name in names:
            if self.frame_layers.number(name) is None:
                one = self.recipe.slices[0] if EMBEDDING.fullmatch(name) else last
                yield name, name, one, Place(name, None, _length(one, self.layers))
        by_layer: dict[int, list[str]] = {}
        for name in names:
            number = self.frame_layers.number(name)
            if number is not None:
                by_layer.setdefault(number, []).append(name)
        layer = 0
        for one in self.recipe.slices:
            count = _length(one, self.layers)
            first = (one.base or one.parts[0]).layers
            for offset in range(count):
                # The frame's own layer of that number may be of another kind; its part's is the one that is merged.
                like = (first[0] if first else 0) + offset
                for name in by_layer.get(min(like, self.frame_layers.count - 1), []):
                    renamed = self.frame_layers.renamed(name, layer)
                    yield renamed, name, one, Place(renamed, offset, count)
                layer += 1

    def own_name(self, part: Part, name: str, place: Place) -> str:
        """What a part's model calls the tensor of this place."""
        if place.layer is None:
            return name
        first = part.layers[0] if part.layers else 0
        return self.frame_layers.renamed(name, first + place.layer)


def _length(one: Slice, layers: Mapping[str, Layers]) -> int:
    part = one.base or one.parts[0]
    return part.layers[1] - part.layers[0] if part.layers else layers[part.model].count


class _Planner:
    def __init__(
        self,
        recipe: Recipe,
        sources: Mapping[str, Source],
        frame: Source,
        tokens: Source,
        added: tuple[Mapping[str, Any], ...],
        block_elements: int,
    ) -> None:
        self.recipe, self.sources, self.frame, self.tokens, self.added = recipe, sources, frame, tokens, added
        self.block_elements = block_elements
        self.layout = _Layout(recipe, sources)
        self.merged = [name for name in sources if any(name == part.model for part in self.layout._parts())]
        self.notes: list[str] = [note for name in self.merged for note in sources[name].notes]
        self.problems: list[str] = []
        self.heads = {name: head_of(sources[name].tensors) for name in {recipe.frame, *self.merged}}
        self.embeddings = {name: embedding_of(sources[name].tensors) for name in {recipe.frame, *self.merged}}

    def plan(self) -> Plan:
        names = self._names()
        self.rows_by_model = self._alignment(names)
        targets = [self._target(name, like, one, place) for name, like, one, place in self.layout.entries(names)]
        self._extra_tensors(names)
        _refuse(self.problems)
        made = sorted((target for target in targets if target is not None), key=lambda target: -target.item_bytes)
        if self.added:
            self.notes.append(f"tokens of other models are added: {', '.join(entry['content'] for entry in self.added)}")
        notes = tuple(dict.fromkeys(self.notes))
        return Plan(self.recipe, self.sources, tuple(made), self._config(made), self.frame, self.tokens, self.added, notes)

    def _names(self) -> list[str]:
        """The frame's tensors, in the order in which they lie on disk; an output layer of its own where any model has one."""
        names = [name for name in self.frame.tensors if not name.endswith(RECOMPUTED)]
        own_heads = [head for head in self.heads.values() if head is not None]
        if own_heads and self.heads[self.recipe.frame] is None:
            names.append(own_heads[0])
        tied = sorted(self.sources[name].label for name in self.merged if self.heads[name] is None)
        if own_heads and tied:
            self.notes.append(
                f"the output layer is untied: it is the embedding itself in {', '.join(tied)}, and has weights of its own elsewhere"
            )
        return names

    def _alignment(self, names: Sequence[str]) -> dict[tuple[str, str], Ids | None]:
        """By model and tensor of the vocabulary: the model's own row for every row of the result; None where they are the same."""
        found: dict[tuple[str, str], Ids | None] = {}
        wanted = self.tokens.vocabulary
        for model in self.merged:
            source = self.sources[model]
            for name in (name for name in names if is_of_vocabulary(name)):
                own = self._tensor(model, name)
                if own is None:
                    continue
                found[model, name] = None
                rows, count = self._vocabulary_rows(name), _token_rows(own)
                if wanted is None or source.vocabulary is None:
                    if rows != count:
                        self.problems.append(
                            f"{source.label}: {name} has {count:,} rows, and {rows:,} in {self.tokens.label}, and without a tokenizer.json "
                            "in both nobody knows which token is whose; valid: models with their tokenizers"
                        )
                    elif (wanted is None) != (source.vocabulary is None):
                        label = self.tokens.label if wanted is None else source.label
                        self.problems.append(
                            f"{label}: no tokenizer.json, and rows are matched by their tokens; valid: a model with its tokenizer"
                        )
                    continue
                if source.vocabulary != wanted:
                    refuse_other_vocabulary(self.tokens.label, wanted, source.label, source.vocabulary)
                found[model, name] = index = own_rows(wanted, rows, source.vocabulary, count)
                if index is not None:
                    lacking = int((index < 0).sum())
                    self.notes.append(
                        f"{source.label}: rows of {name} are matched by token"
                        + (
                            f"; it lacks {lacking:,} of {rows:,}, which count as those of the base, or as the mean of their owners"
                            if lacking
                            else ""
                        )
                    )
        return found

    def _vocabulary_rows(self, name: str) -> int:
        """Rows of the result: those of the model whose tokenizer it has, padding included, and of what was added to that."""
        key = self.recipe.tokens or self.recipe.frame
        own = self._tensor(key, name) or self._tensor(self.recipe.frame, name)
        assert own is not None, "the frame has it, or its embedding stands for it"
        return max(_token_rows(own), *(1 + int(entry["id"]) for entry in self.added), 0)

    def _tensor(self, model: str, name: str) -> Tensor | None:
        """A model's tensor; of a tied output layer the embedding's."""
        source = self.sources[model]
        found = source.tensors.get(name)
        if found is None and HEAD.fullmatch(name) and name.endswith(".weight"):
            heads, embedding = head_of(source.tensors), embedding_of(source.tensors)
            return source.tensors.get(heads or embedding or "")
        return found

    def _target(self, name: str, like: str, one: Slice, place: Place) -> Target | None:
        own: list[tuple[Part, Tensor]] = []
        for part in (*([one.base] if one.base else []), *one.parts):
            called = self.layout.own_name(part, like, place)
            tensor = self._tensor(part.model, called)
            if tensor is None:
                self.problems.append(f"{self.sources[part.model].label}: it lacks the tensor {called}")
                return None
            own.append((part, tensor))
        first = self._tensor(self.recipe.frame, like)
        assert first is not None, "a tensor of the frame"
        dimensions = first.dimensions
        if is_of_vocabulary(name):
            dimensions = (self._vocabulary_rows(like), *dimensions[1:])
        others = self._other_owners(like, own)
        read = [*((part.model, tensor) for part, tensor in own), *((model, tensor) for model, tensor, _ in others)]
        for model, tensor in read:
            expected = (_token_rows(tensor), *dimensions[1:]) if is_of_vocabulary(name) else dimensions
            if tensor.dimensions != expected:
                self.problems.append(
                    f"{self.sources[model].label}: {name} has the shape {list(tensor.dimensions)}, and {list(expected)} in "
                    f"{self.frame.label}; valid: models of one shape"
                )
                return None
        sources = tuple((self.sources[model], tensor) for model, tensor in read)
        options = self._options(one, place)
        if first.dtype not in FLOAT_BYTES:
            return Target(name, first.dtype, dimensions, sources, None, options)
        if any(tensor.dtype not in FLOAT_BYTES for _, tensor in read):
            self.problems.append(f"{name}: it holds floating point numbers in {self.frame.label} alone")
            return None
        more = [(_by_token(tensor), index) for _, tensor, index in others]
        rows = [self._rows(part, tensor, like, own, more, has_base=one.base is not None) for part, tensor in own]
        base = rows.pop(0) if one.base else None
        ingredients = [self._operand(part, row, one, place) for part, row in zip(one.parts, rows, strict=True)]
        self._check_weights(name, ingredients, options)
        dtype = STORED[self.recipe.dtype] if self.recipe.dtype else first.dtype
        return Target(name, dtype, dimensions, sources, Operands(name, ingredients, base, self.block_elements), options)

    def _other_owners(self, name: str, own: Sequence[tuple[Part, Tensor]]) -> list[tuple[str, Tensor, Ids]]:
        """Of rows that none of a slice's own tensors has: the models of other slices that do, their tensors, and where; -1 elsewhere."""
        if not is_of_vocabulary(name):
            return []
        places = np.arange(self._vocabulary_rows(name))
        indices = {model: _or_places(index, places) for (model, called), index in self.rows_by_model.items() if called == name}
        lacking = np.all([indices.pop(model) < 0 for model in {part.model for part, _ in own}], axis=0)
        found = []
        for model, index in indices.items():
            tensor, index = self._tensor(model, name), np.where(lacking, index, -1)
            assert tensor is not None, "its rows were matched"
            if (index >= 0).any():
                found.append((model, tensor, index))
        return found

    def _rows(
        self,
        part: Part,
        tensor: Tensor,
        name: str,
        own: Sequence[tuple[Part, Tensor]],
        others: Sequence[tuple[Rows, Ids]],
        *,
        has_base: bool,
    ) -> Rows:
        """A part's tensor in the order of the result's tokens. others: who has rows that none of `own` has."""
        index = self.rows_by_model.get((part.model, name))
        rows = _by_token(tensor) if is_of_vocabulary(name) else tensor
        if index is None:
            return rows
        if not (index < 0).any():
            return AlignedRows(rows, index, rows)
        places = np.arange(len(index))
        owners = [(_by_token(other), _or_places(self.rows_by_model.get((one.model, name)), places)) for one, other in own]
        mean = OwnersMean([*owners, *others], rows.shape[1])
        if has_base and part is not own[0][0]:
            base_rows, base_index = owners[0]
            return AlignedRows(rows, index, AlignedRows(base_rows, base_index, mean))
        return AlignedRows(rows, index, mean)

    def _operand(self, part: Part, rows: Rows, one: Slice, place: Place) -> Operand:
        values = {
            name: value_at(name, place, default, part.settings, one.settings, self.recipe.settings)
            for name, default in (("weight", None), ("density", 1.0), ("gamma", 0.01), ("epsilon", 0.15))
        }
        if values["weight"] is None and self.recipe.weight_required is not None:
            self.problems.append(f"{part.model}: no {self.recipe.weight_required} for {place.tensor}; valid: a number for every tensor")
        if values["weight"] is None:
            values["weight"] = 1.0
        operand = Operand(name=part.model, rows=rows, **{name: float(value) for name, value in values.items()})
        if not 0.0 <= operand.density <= 1.0:
            self.problems.append(f"{part.model}: density={operand.density} in {place.tensor}; valid: 0 to 1")
        if self.recipe.method.startswith("della") and 0.0 < operand.density < 1.0:
            low, high = operand.density - operand.epsilon, operand.density + operand.epsilon
            if not (low > 0.0 and high < 1.0):
                self.problems.append(
                    f"{part.model}: density={operand.density} ± epsilon={operand.epsilon} leaves (0, 1); valid: an epsilon below "
                    f"{min(operand.density, 1.0 - operand.density):.4g}"
                )
        return operand

    def _options(self, one: Slice, place: Place) -> Options:
        def told(name: str, default: Any) -> Any:
            return value_at(name, place, default, one.settings, self.recipe.settings)

        normalize = told("normalize", None)
        return Options(
            scale=float(told("scale", 1.0)),
            normalize=None if normalize is None else bool(normalize),
            topk=float(told("topk", 1.0)),
            rescale=told("rescale", "l1"),
            by_row=bool(told("by_row", False)),
            noise=Noise(self.recipe.seed),
        )

    def _check_weights(self, name: str, ingredients: Sequence[Operand], options: Options) -> None:
        method, total = self.recipe.method, sum(one.weight for one in ingredients)
        divides = method in ("linear", "multislerp") and options.normalize is not False
        if (divides or method == "nuslerp" or (options.normalize and method != "sce")) and abs(total) < SMALLEST_SUM:
            self.problems.append(
                f"weight: those of {name} add up to {total:g}, and are divided by that; valid: another sum, or normalize=false"
            )

    def _extra_tensors(self, names: Sequence[str]) -> None:
        """Tensors that the frame does not know: another architecture, whatever its name."""
        known = {self.layout.frame_layers.number(name) is None and name for name in names}
        kinds = {_kind(self.layout.frame_layers, name) for name in names if self.layout.frame_layers.number(name) is not None}
        for model in self.merged:
            extra = [
                name
                for name in self.sources[model].tensors
                if not name.endswith(RECOMPUTED)
                and name not in known
                and _kind(self.layout.frame_layers, name) not in kinds
                and not HEAD.fullmatch(name)
            ]
            more = self.layout.layers[model].count > self.layout.frame_layers.count and not any(
                part.layers for part in self.layout._parts()
            )
            if extra or more:
                shown = ", ".join(extra[:SHOWN]) or f"{self.layout.layers[model].count} layers"
                self.problems.append(
                    f"{self.sources[model].label}: it has {shown}, which {self.frame.label} lacks; valid: models of one architecture"
                )

    def _config(self, targets: Sequence[Target]) -> dict[str, Any]:
        config = dict(self.frame.config)
        if any(part.layers for part in self.layout._parts()):
            config = with_layers(config, self.layout.frame_layers.count, self.layout.numbers())
        embedding = next((target for target in targets if EMBEDDING.fullmatch(target.name)), None)
        if embedding is not None:
            _set_text(config, "vocab_size", embedding.dimensions[0])
        if head_of(target.name for target in targets) is not None:
            # Also of a frame whose configuration says it is tied: others believe that, and would not read the head that is stored.
            _set_text(config, "tie_word_embeddings", False)
            config["tie_word_embeddings"] = False
        if self.tokens is not self.frame:
            for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
                if name in self.tokens.config:
                    config[name] = self.tokens.config[name]
        stored = Counter(TORCH_NAMES[target.dtype] for target in targets if target.operands is not None).most_common(1)
        for name in [name for name in ("dtype", "torch_dtype") if name in config] or ["dtype"]:
            config[name] = stored[0][0] if stored else config.get(name)
        return config


def _kind(layers: Layers, name: str) -> str | None:
    """A tensor's name without its layer; None outside of the layers."""
    return None if layers.number(name) is None else layers.renamed(name, 0)


def _token_rows(tensor: Tensor) -> int:
    return tensor.dimensions[0]


def _by_token(tensor: Tensor) -> Rows:
    """A row for each token, of a bias too."""
    return Column(tensor) if len(tensor.dimensions) == 1 else tensor


def _or_places(index: Ids | None, places: Ids) -> Ids:
    return places if index is None else index


def _set_text(config: dict[str, Any], name: str, value: Any) -> None:
    """In the part of a configuration that is of text."""
    inner = config.get("text_config")
    if isinstance(inner, dict):
        config["text_config"] = {**inner, name: value}
    else:
        config[name] = value


def _refuse(problems: list[str]) -> None:
    if problems:
        shown = list(dict.fromkeys(problems))
        more = [f"… and {len(shown) - 2 * SHOWN} more"] if len(shown) > 2 * SHOWN else []
        raise InputError("\n".join([*shown[: 2 * SHOWN], *more]))
