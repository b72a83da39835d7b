"""A recipe: an exported experiment with all that is needed to trust and to repeat it, in one directory that can be shared.

    experiment/best/NAME.yaml      the experiment, for `harness train experiment=best/NAME`
    experiment/best/NAME/          its bundle
        bundle.json                the result, its conditions, the confidence in it (`Bundle`)
        config.yaml                the resolved configuration of the winning run
        experiment.yaml            the same as NAME.yaml
        sweep.yaml                 the question that it answers; `harness sweep DIR/sweep.yaml` asks it again (not for a single run)
        trials.parquet             all runs of the search and of its confirmation, a row each
        metrics.jsonl              the winning run's own rows
        chat_template.jinja        where the configuration named a file
        generation_config.json vllm.json llamacpp.txt
                                   how it samples, for engines that serve models, where texts were judged
        README.md *.svg            a card for people, with pictures

A bundle may come from a stranger. It holds plain values alone; what is read here is checked, and no field of it is ever used as a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Len

from harness.config.documents import DamagedError, typed
from harness.config.errors import InputError, did_you_mean
from harness.config.locations import BUNDLE_FILE, LOCAL, config_dirs, in_home
from harness.runs.files import read_json, write_json
from harness.runs.metrics import MetricsFile, Row
from harness.runs.result import Tokens

FORMAT = 1
FOLDER = "best"
PLAIN_NAME = re.compile(r"\w[\w.-]*")


@dataclass(kw_only=True)
class Bundle:
    """bundle.json."""

    format: int = FORMAT
    name: str
    created: str
    """Date."""
    study: str | None
    """null: of a single run."""
    trial: int | None
    trials: int
    """How many the study has."""
    base: list[str]
    """The experiments that it is a delta on."""
    task: dict[str, str]
    """objective and adapter, by their kinds."""
    model: dict[str, Any]
    """name; hub: its name on the Hugging Face hub, null for others; parameters (trained, total); size: without embeddings, null where
    unknown."""
    datasets: list[str] = field(default_factory=list)
    """Names on the hub of the data sets that it was trained on."""
    metric: str | None
    direction: str
    objective: float | None
    """Of a confirmed winner the mean over seeds."""
    confirmed: bool
    interval: list[float] | None
    seeds: list[int]
    """Of the confirmation."""
    noise: dict[str, float] | None
    """sd of one configuration over seeds, with its degrees of freedom."""
    constraints: dict[str, dict[str, float]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """Last values of the winning run itself."""
    metrics_over_seeds: dict[str, float] = field(default_factory=dict)
    chances: dict[str, float] = field(default_factory=dict)
    """By constrained metric, of a confirmed winner: that a run with a fresh seed meets the bound."""
    params: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, str | None] = field(default_factory=dict)
    """The choice made in each configuration group."""
    importances: dict[str, float] = field(default_factory=dict)
    importances_note: str = ""
    """The method and the number of trials, and whether that is few."""
    seed: int
    """Of the winning run."""
    steps: int
    tokens: Tokens
    seconds: float
    versions: dict[str, str]
    git_commit: str | None
    fingerprints: dict[str, str]
    hardware: dict[str, Any]
    to_give: dict[str, str] = field(default_factory=dict)
    """By configuration key, what a reader has under another path than its author had."""
    served: list[dict[str, Any]] = field(default_factory=list)
    """By engine that serves models, where texts were judged: engine, file, verdict (exact, approximate, not expressible) and notes."""
    confirmation: dict[str, Any] | None = None
    """As `harness confirm --json` prints it."""
    report: list[str] = field(default_factory=list)
    """The verdict on documents that chose nothing, a sentence each; [] where none were kept for the report."""
    ingredients: dict[str, Any] = field(default_factory=dict)
    """Of a merge: by configuration key of each model its path, its fingerprint and made_by: null, or run, step, config, fingerprints,
    metrics, hardware and ingredients of the run that made it, where that was at hand."""
    mergekit: str | None = None
    """Of a merge: why mergekit has no words for it; "" where mergekit.yml has them, null of others."""


@dataclass
class _Served:
    engine: str
    file: str
    verdict: str
    notes: list[str] = field(default_factory=list)


@dataclass
class _Model:
    name: str
    parameters: dict[str, int] = field(default_factory=dict)
    size: int | None = None
    hub: str | None = None


@dataclass
class _Confirmation:
    candidates: list[Any] = field(default_factory=list)
    probability_best: float | None = None


@dataclass
class _ReliedOn:
    """What is read of the parts that the bundle holds as they came."""

    model: _Model
    confirmation: _Confirmation | None = None
    interval: Annotated[list[float], Len(2, 2)] | None = None
    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    served: list[_Served] = field(default_factory=list)


@dataclass(frozen=True)
class BundleDirectory:
    """A bundle on disk."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.yaml"

    @property
    def sweep(self) -> Path:
        return self.path / "sweep.yaml"

    @property
    def trials(self) -> Path:
        return self.path / "trials.parquet"

    @property
    def chat_template(self) -> Path:
        return self.path / "chat_template.jinja"

    @property
    def metrics(self) -> MetricsFile:
        return MetricsFile(self.path / "metrics.jsonl")

    @property
    def rows(self) -> list[Row]:
        return self.metrics.rows()

    @property
    def owners(self) -> Path | None:
        """The private part, where the bundle is in one of the user's directories of configuration: local/best/NAME.yaml of that."""
        place = self.path.resolve()
        base = place.parent.parent.parent
        return base / LOCAL / FOLDER / f"{place.name}.yaml" if base in config_dirs() else None

    def read(self) -> Bundle:
        """bundle.json. Raises InputError where it is damaged, or newer than this harness."""
        path = self.path / BUNDLE_FILE
        try:
            document = read_json(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        if document is None:
            raise InputError(f"{path}: no such file")
        if isinstance(document.get("format"), int) and document["format"] > FORMAT:
            raise InputError(f"{path}: written by a newer harness (format {document['format']}, this one reads {FORMAT})")
        typed(_ReliedOn, document, path)
        bundle = typed(Bundle, document, path)
        # What is made of a recipe is called by its name.
        if not PLAIN_NAME.fullmatch(bundle.name):
            raise DamagedError(path, f"name={bundle.name!r}: valid: letters, digits, . - _")
        return bundle

    def write(self, bundle: Bundle) -> None:
        write_json(self.path / BUNDLE_FILE, asdict(bundle))


def bundles() -> Iterator[tuple[str, BundleDirectory]]:
    """Every bundle under experiment/best/ of --config-dir, ./conf and the harness's own, by name; of one name the first counts."""
    seen: set[str] = set()
    for base in config_dirs():
        for path in sorted((base / "experiment" / FOLDER).glob(f"*/{BUNDLE_FILE}")):
            if path.parent.name not in seen:
                seen.add(path.parent.name)
                yield path.parent.name, BundleDirectory(path.parent)


def named_bundle(name: str) -> BundleDirectory | None:
    """The bundle of the exported experiment NAME or best/NAME; None where there is none."""
    plain = name.removeprefix(f"{FOLDER}/")
    if not PLAIN_NAME.fullmatch(plain):
        return None
    return next((bundle for found, bundle in bundles() if found == plain), None)


def find_bundle(word: str) -> BundleDirectory | None:
    """By name, by its directory, or by the path of its experiment file; None where the word means no bundle."""
    path = in_home(word)
    for candidate in (path, path.with_suffix("") if path.suffix == ".yaml" else path):
        if (candidate / BUNDLE_FILE).is_file():
            return BundleDirectory(candidate)
    return named_bundle(word)


def unknown_recipe(word: str) -> InputError:
    names = [name for name, _ in bundles()]
    return InputError(
        f"unknown recipe {word!r}: no bundle of this name."
        + did_you_mean(word.removeprefix(f"{FOLDER}/"), names)
        + (f" Recipes here: {', '.join(names)}." if names else " There is no recipe here; `harness best STUDY --export NAME` writes one.")
    )
