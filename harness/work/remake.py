"""The models that a recipe's merge is made of, where they are missing here or others: trained again, as the recipe says each was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.nested import flat
from harness.config.overrides import hydra_text, key_of
from harness.config.private import PATH_KEY
from harness.config.recipe import load_recipe, safe_values
from harness.config.user_yaml import read_mapping
from harness.runs.bundle import BundleDirectory
from harness.runs.directory import RunDirectory, runs_root
from harness.runs.result import Result
from harness.work.family import run_in
from harness.work.kept_run import kept_run
from harness.work.reproduce import with_threads
from harness.work.retrain import refuse_foreign_step


@dataclass(frozen=True)
class Remade:
    """A model of a merge that is not here as the recipe's author had it."""

    key: str
    """model.merge.ingredients.NAME"""
    why: str
    """In which way: missing, or another."""
    word: str | None
    """What it is here by now, where it was trained again; None: it was not made by a run, or nothing was to be trained."""
    is_same: bool | None = False
    """Whether that has the fingerprint of the original, and so its bits; None where that fingerprint is not known."""

    @property
    def line(self) -> str:
        """A sentence."""
        if self.word is None:
            return f"{self.key}: {self.why}"
        bits = {True: "to the same bits", False: "not to the same bits", None: "whether to the same bits is not known"}
        return f"{self.key}: {self.why}; trained again in {self.word}, {bits[self.is_same]}"

    @property
    def override(self) -> list[str]:
        """What puts it in the place of the original."""
        return [] if self.word is None else [f"{path_key(self.key)}={hydra_text(self.word)}"]


def path_key(key: str) -> str:
    """The configuration key that names the model which a family calls `key`."""
    return key if key == "model.merge.base" else f"{key}.path"


def parted(bundle: BundleDirectory, overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides of a recipe, and those for the models of its merge alone: paths that the recipe's own configuration has not."""
    own = dict(flat(read_mapping(bundle.config, holds="the resolved configuration of a recipe")))
    of_models = {key for key in _path_keys(bundle.read().ingredients) if own.get(key) is None}
    return [text for text in overrides if key_of(text) not in of_models], [text for text in overrides if key_of(text) in of_models]


def _path_keys(family: Mapping[str, Any]) -> Iterator[str]:
    for one in family.values():
        made_by = one.get("made_by") if isinstance(one, dict) else None
        if isinstance(made_by, dict) and isinstance(made_by.get("config"), dict):
            yield from (key for key, value in flat(made_by["config"]) if value is not None and PATH_KEY.fullmatch(key))
            yield from _path_keys(made_by.get("ingredients") or {})


def remade(bundle: BundleDirectory, paths: Mapping[str, Any], *, given: Sequence[str] = (), train: bool) -> list[Remade]:
    """What of a recipe's family is not here, the leaves first.

    paths: values of the configuration, by key; given: overrides for files that lie elsewhere here; train: whether it is to be made.

    What is trained is kept under the runs root, so that a further call finds it. Raises InputError for a configuration that cannot be used
    here (the message names the model), UnfinishedError where a run does not come to its end.
    """
    recipe = bundle.read()
    return _family(recipe.ingredients, paths, bundle, f"reproduce-{recipe.name}", given, train=train)


def unexplained(other: Sequence[str], parts: Sequence[Remade]) -> list[str]:
    """The inputs that differ from the original's for another reason than that a model of the merge was trained again."""
    again = {part.key for part in parts if part.word is not None}
    left = [name for name in other if name not in again]
    is_of_parts = bool(again) and not any(name.startswith("model.merge.") for name in left)
    return [name for name in left if not (name == "model" and is_of_parts)]


def _family(
    family: Mapping[str, Any], paths: Mapping[str, Any], bundle: BundleDirectory, label: str, given: Sequence[str], *, train: bool
) -> list[Remade]:
    found = []
    for key, one in family.items():
        word = paths.get(path_key(key))
        if not isinstance(one, dict) or not isinstance(word, str):
            continue  # several models of one word, as recipes before December 2026 have them: the word is looked up as ever
        made_by = one.get("made_by")
        # A run of the author's is not looked for on the hub.
        is_run = made_by is not None and word == one.get("path") and run_in(word) is None and not Path(word).exists()
        why = f"{word} is not here" if is_run else _not_here(word, path_key(key), one.get("fingerprint"))
        if why is None:
            continue
        if not (isinstance(made_by, dict) and isinstance(made_by.get("config"), dict)):
            found.append(Remade(key, f"{why}; the recipe does not say how it was made; valid: {path_key(key)}=MODEL", None))
        elif not train:
            found.append(Remade(key, f"{why}; without --check it is trained again", None))
        else:
            found.append(_trained(key, why, one, bundle, f"{label}-{key.rpartition('.')[2]}", word, given))
    return found


def _trained(key: str, why: str, one: Mapping[str, Any], bundle: BundleDirectory, label: str, word: str, given: Sequence[str]) -> Remade:
    made_by = one["made_by"]
    values = safe_values(made_by["config"], bundle.path, template=bundle.chat_template)
    kept = (values.get("trainer") or {}).get("final_checkpoint", "full")
    # The fingerprint is of the whole checkpoint: full or weights, as it was then.
    overrides = ["trainer.final_checkpoint=weights"] if kept == "none" else []
    own = dict(flat(values))
    overrides += [text for text in given if own.get(key_of(text)) is not None and PATH_KEY.fullmatch(key_of(text))]
    overrides = with_threads(overrides, Result(hardware=made_by.get("hardware") or {}), values)
    run = RunDirectory(runs_root() / label)
    try:
        inner = _family(made_by.get("ingredients") or {}, own, bundle, label, given, train=True)
        overrides += [text for part in inner for text in part.override]
        kept_run(load_recipe(values, overrides, origin=f"{bundle.path}: {key}", to_give={}), run)
    except InputError as error:
        valid = f"valid: these files, by their keys; or the model itself: {path_key(key)}=MODEL"
        raise InputError(f"{key}: {why}, and cannot be trained again here:\n{error}\n{valid}") from None
    name, at, step = word.rpartition("@")
    here = f"{run.path}@{step}" if at and name and step.isdigit() else str(run.path)
    refuse_foreign_step(path_key(key), here, run, here)
    known = one.get("fingerprint")
    return Remade(key, why, here, is_same=None if known is None else _not_here(here, key, known) is None)


def _not_here(word: str, key: str, fingerprint: Any) -> str | None:
    """In which way the model is not the one of this fingerprint; None where it is."""
    from harness.models.ingredients import ingredient

    try:
        here = ingredient(word, key=key).fingerprint
    except InputError as error:
        return f"{word} is not here ({str(error).splitlines()[0]})"
    return None if fingerprint in (None, here) else f"{word} is another model here, by its fingerprint"
