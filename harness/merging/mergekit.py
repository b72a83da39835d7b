"""mergekit's YAML as a recipe: models or slices, filters, gradients, tokenizer. What we do not have is refused, never ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt

from harness.config.errors import InputError, unknown, wrong_value
from harness.config.merge_methods import METHODS, MergeMethod
from harness.config.schema import Section
from harness.config.trust import is_own, lies_outside, refuse
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_section
from harness.merging.recipe import Part, Place, Recipe, Setting, Settings, Slice, constant
from harness.merging.source import TORCH_NAMES

Value = Any
"""A scalar, a gradient, {value, filter}, or a list of these."""
WITHOUT_EFFECT: dict[str, tuple[Value, ...]] = {"int8_mask": (True, False)}
"""Parameters that are no part of the result, with the values for which that is so."""
WITHOUT_EFFECT_IN: dict[MergeMethod, dict[str, tuple[Value, ...] | None]] = {
    "task_arithmetic": {"density": None, "rescale": (True, False)},
    "ties": {"rescale": (False,)},
    "breadcrumbs": {"rescale": (False,)},
    "breadcrumbs_ties": {"rescale": (False,)},
    "model_stock": {"filter_wise": (False,)},
    "multislerp": {"eps": None},
    "nuslerp": {"nuslerp_row_wise": (False,)},
    "karcher": {"max_iter": (10,), "tol": (1e-5,)},
}
"""The same of a method; None: any value."""
WEIGHTED = {method for method, facts in METHODS.items() if "weight" in facts.of_ingredients} - {"passthrough"}
"""Methods in which mergekit wants a weight of every model."""
CHAT_TEMPLATES = ("auto",)
MODEL_KEYS = ("model", "base_model", "tokenizer_source", "source")
"""Whose values are models."""


@dataclass(kw_only=True)
class ModelEntry(Section):
    """A model of `models`."""

    model: str
    parameters: dict[str, Value] | None = None


@dataclass(kw_only=True)
class SourceEntry(Section):
    """A model of a slice."""

    model: str
    layer_range: tuple[int, int] | None = None
    parameters: dict[str, Value] | None = None


@dataclass(kw_only=True)
class SliceEntry(Section):
    """Layers of the result."""

    sources: list[SourceEntry]
    base_model: str | None = None
    parameters: dict[str, Value] | None = None


@dataclass(kw_only=True)
class TokenizerEntry(Section):
    """Whose tokenizer the result has."""

    source: str = "base"
    tokens: dict[str, Value] | None = None
    pad_to_multiple_of: int | None = None


@dataclass(kw_only=True)
class MergekitFile(Section):
    """A mergekit_config.yml."""

    merge_method: str
    base_model: str | None = None
    models: list[ModelEntry] = field(default_factory=list)
    slices: list[SliceEntry] = field(default_factory=list)
    parameters: dict[str, Value] | None = None
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    tokenizer: TokenizerEntry | None = None
    chat_template: str | None = None
    name: str | None = None
    random_seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    """Of random masks; many recipes give it, and mergekit does not read it."""


def read_mergekit(path: Path, *, seed: int | None = None) -> Recipe:
    """The recipe in a file, which may be a stranger's. seed: of random masks, in place of its own. Raises InputError, naming the file."""
    values = read_mapping(path, holds="a recipe of mergekit")
    if "merge_method" not in values:
        raise InputError(f"{path}: no recipe of mergekit: merge_method is missing. Valid methods: {', '.join(METHODS)}")
    if "modules" in values:
        raise InputError(f"{path}: modules: models of several towers are not merged by recipe; valid: models or slices")
    try:
        file = to_section(MergekitFile, _with_words(values))
        recipe = _recipe(file, seed, values)
    except InputError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    if not is_own(path):
        outside = [
            f"model={word} (outside of the working directory)"
            for word in recipe.words.values()
            if any(_is_path(part) and lies_outside(part, path) for part in word.partition("+")[::2])
        ]
        refuse(path, outside, "a recipe")
    return recipe


def _with_words(value: Any, key: str = "") -> Any:
    """The document with a word (MODEL@REVISION+LORA) where it spells a model out as a mapping, as mergekit writes some itself."""
    if isinstance(value, list):
        return [_with_words(one) for one in value]
    if not isinstance(value, dict):
        return value
    if key in MODEL_KEYS:
        return _word(key, value)
    return {name: one if name in ("parameters", "tokens") else _with_words(one, name) for name, one in value.items()}


def _word(key: str, value: Any) -> str:
    match value:
        case str(word):
            return word
        case {"path": str(path), **others} if others.keys() <= {"revision"}:
            return f"{path}@{others['revision']}" if others.get("revision") else path
        case {"model": model, **others} if others.keys() <= {"lora", "override_architecture"} and not others.get("override_architecture"):
            return "+".join(_word(key, one) for one in (model, others.get("lora")) if one is not None)
        case _:
            raise wrong_value(key, value, "valid: MODEL, MODEL+LORA, or {model: {path: …, revision: …}, lora: {path: …, revision: …}}")


def setting(value: Value) -> Setting:
    """A value of mergekit's as a function of the place. Raises InputError for one that is none."""
    _check(value)
    return lambda place: _at(value, place)


def _recipe(file: MergekitFile, seed: int | None, written: Mapping[str, Any]) -> Recipe:
    method = _method(file.merge_method)
    if bool(file.models) == bool(file.slices):
        raise InputError("models: give either models, or slices")
    listed = file.slices or [SliceEntry(sources=[SourceEntry(model=one.model, parameters=one.parameters) for one in file.models])]
    base = file.base_model
    if base is not None and METHODS[method].base == "none" and file.models and base not in [one.model for one in file.models]:
        problem = f"{method} has no base, and mergekit would merge this one like the others"
        raise wrong_value("base_model", base, f"{problem}; valid: a model of models, or none")
    slices = tuple(_slice(method, one, one.base_model or base) for one in listed)
    words = dict.fromkeys(part.model for one in slices for part in (*([one.base] if one.base else []), *one.parts))
    if base is not None:
        words.setdefault(base)
    for one in slices:
        _check_count(method, one)
    frame = base or slices[0].parts[0].model
    tokens, unites = _tokens(file, list(words))
    return Recipe(
        method=method,
        words={word: word for word in words},
        keys=dict.fromkeys(words, "model"),
        slices=slices,
        base=base,
        frame=frame,
        tokens=tokens,
        unites_tokens=unites,
        settings=_settings(method, file.parameters),
        dtype=_dtype(file.out_dtype or file.dtype),
        chat_template=_chat_template(file.chat_template),
        seed=file.random_seed if seed is None else seed,
        written=dict(written),
        weight_required="t" if method == "slerp" else "weight" if method in WEIGHTED else None,
    )


def _method(word: str) -> MergeMethod:
    if word not in METHODS:
        raise unknown("merge_method", word, METHODS)
    return word


def _slice(method: MergeMethod, entry: SliceEntry, base: str | None) -> Slice:
    facts = METHODS[method]
    if not entry.sources:
        raise InputError("sources: a slice without any; valid: at least one model")
    if facts.base == "required" and base is None:
        raise InputError(f"base_model: required by {method}, whose changes are from it")
    parts = [Part(one.model, one.layer_range, _settings(method, one.parameters)) for one in entry.sources]
    if facts.base == "none" or base is None:
        return Slice(tuple(parts), None, _settings(method, entry.parameters))
    own = next((part for part in parts if part.model == base), Part(base, parts[0].layers))
    return Slice(tuple(part for part in parts if part is not own), own, _settings(method, entry.parameters))


def _check_count(method: MergeMethod, one: Slice) -> None:
    facts = METHODS[method]
    if len(one.parts) < facts.fewest or (facts.most is not None and len(one.parts) > facts.most):
        wanted = str(facts.fewest) if facts.most == facts.fewest else f"at least {facts.fewest}"
        besides = "" if one.base is None else " besides the base"
        raise InputError(f"merge_method={method}: takes {wanted} model{'s' * (wanted != '1')}{besides}; given: {len(one.parts)}")


def _settings(method: MergeMethod, parameters: Mapping[str, Value] | None) -> Settings:
    """Parameters by our names. Raises InputError for one that the method does not have."""
    facts = METHODS[method]
    names, ignored = _names(method), WITHOUT_EFFECT | WITHOUT_EFFECT_IN.get(method, {})
    found: dict[str, Setting] = {}
    for given, value in (parameters or {}).items():
        if given in names:
            found[names[given]] = _converted(given, value)
        elif given not in ignored:
            raise unknown("parameter", given, [*names, *ignored], where=f"merge_method={method}")
        elif (valid := ignored[given]) is not None and value not in valid:
            raise wrong_value(f"parameters.{given}", value, f"is not offered with {method}; valid: {', '.join(map(str, valid))}")
    assert found.keys() <= facts.of_all | facts.of_ingredients, "names are of the method's parameters"
    return found


def _converted(given: str, value: Value) -> Setting:
    match given:
        case "rescale":
            return constant("l1" if value else "none")
        case "nuslerp_flatten":
            return constant(not value)
        case _:
            return setting(value)


def _names(method: MergeMethod) -> dict[str, str]:
    """mergekit's names of the parameters that a method reads, with ours."""
    match method:
        case "slerp":
            return {"t": "weight"}
        case "passthrough":
            return {"scale": "weight"}
        case "nuslerp":
            return {"weight": "weight", "nuslerp_flatten": "by_row"}
        case "multislerp":
            return {"weight": "weight", "normalize_weights": "normalize"}
        case "sce":
            return {"select_topk": "topk"}
        case _:
            facts = METHODS[method]
            ours = (facts.of_all | facts.of_ingredients) - {"scope"}
            return {"lambda" if name == "scale" else name: name for name in ours}


def _tokens(file: MergekitFile, words: Sequence[str]) -> tuple[str | None, bool]:
    """The model whose tokenizer it is, None for the frame's, and whether that gets the tokens of the others."""
    if file.tokenizer is not None and file.tokenizer_source is not None:
        raise InputError("tokenizer_source: not beside tokenizer; give one of them")
    entry = file.tokenizer or TokenizerEntry(source=file.tokenizer_source or "base")
    if entry.tokens:
        raise InputError("tokenizer.tokens: tokens with rows of their own are not offered; valid: source alone")
    if entry.pad_to_multiple_of is not None:
        raise InputError("tokenizer.pad_to_multiple_of: not offered; rows of padding are kept as they are")
    if entry.source in ("base", "union"):
        return None, entry.source == "union"
    word = entry.source.removeprefix("model:")
    if word not in words:
        raise wrong_value("tokenizer.source", entry.source, f"none of the recipe's models; valid: base, union, {', '.join(words)}")
    return word, False


def _dtype(word: str | None) -> str | None:
    if word is not None and word not in TORCH_NAMES.values():
        raise wrong_value("dtype", word, f"valid: {', '.join(TORCH_NAMES.values())}")
    return word


def _chat_template(text: str | None) -> str | None:
    if text is None or text in CHAT_TEMPLATES:
        return None
    if "{" not in text:
        raise wrong_value("chat_template", text, "templates by name are not offered; valid: auto (the tokenizer's), or Jinja")
    return text


def _is_path(word: str) -> bool:
    return Path(word).expanduser().exists() or word.startswith(("/", "~", "."))


def _check(value: Value) -> None:
    match value:
        case bool() | int() | float():
            return
        case {"value": inner, **others} if others.keys() <= {"filter"}:
            _check(inner)
        case [*entries] if entries:
            numbers = [isinstance(entry, int | float) for entry in entries]
            if not all(numbers):
                for entry in entries:
                    if isinstance(entry, list):
                        break
                    _check(entry)
                else:
                    return
                raise wrong_value("parameters", value, _VALID)
        case _:
            raise wrong_value("parameters", value, _VALID)


_VALID = "valid: a number, true or false, a list of numbers along the layers, {value, filter}, or a list of these"


def _at(value: Value, place: Place) -> float | bool | None:
    match value:
        case bool() | int() | float():
            return value
        case {"value": inner, **others}:
            wanted = others.get("filter")
            return _at(inner, place) if wanted in (None, "*") or str(wanted) in place.tensor else None
        case [*entries] if all(isinstance(entry, int | float) for entry in entries):
            return _gradient([float(entry) for entry in entries], place.depth)
        case [*entries]:
            return next((found for entry in entries if (found := _at(entry, place)) is not None), None)
        case _:
            raise AssertionError("checked when it was read")


def _gradient(values: Sequence[float], depth: float) -> float:
    """Between values that are spread evenly over the layers."""
    place = depth * (len(values) - 1)
    index = min(int(place), max(0, len(values) - 2))
    upper = values[min(index + 1, len(values) - 1)]
    return values[index] + (place - index) * (upper - values[index])
