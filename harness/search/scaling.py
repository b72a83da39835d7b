"""A power law of the best learning rate over earlier studies: log(rate) = a + b log(size) + c log(tokens), by least squares.

The form is that of Step Law (Li et al. 2025, arXiv:2503.04715) and DeepSeek LLM (Bi et al. 2024, arXiv:2401.02954). Terms that the studies
cannot tell apart from the others, because they agree in size or in tokens, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.config.documents import DamagedError, as_mapping, read_json
from harness.config.errors import InputError
from harness.config.schema import ModelConfig
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_section
from harness.runs.bundle import BundleDirectory
from harness.runs.directory import find_study
from harness.runs.record import load_study
from harness.search.bundle_prior import bundle_of
from harness.search.space import Space

PARAMETER = "optim.lr"
LEAST_SPREAD = 1.5
"""A best rate is known to no better than this factor: neighbouring rates differ by less than seed noise."""
UNKNOWN_SPREAD = 3.0
"""Where the studies are no more than the terms, nothing says how well the law holds."""
LARGEST_LOG = 700.0
"""Its exponential is about as large as a float can be."""


@dataclass(frozen=True)
class Observation:
    """The best trial of one study."""

    study: str
    size: int
    """Parameters of the model without its embeddings."""
    tokens: int
    rate: float
    loss: float
    """Its objective."""


@dataclass(frozen=True)
class PowerLaw:
    """value = exp(intercept) · size^size_exponent · tokens^tokens_exponent."""

    intercept: float
    size: float
    """Exponent of the model's size; 0 where the data could not tell."""
    tokens: float
    """Exponent of the tokens trained; 0 where the data could not tell."""
    spread: float | None
    """Factor of one standard deviation of what it leaves unexplained; None without a degree of freedom to tell."""

    def at(self, size: int, tokens: int) -> float:
        log = self.intercept + self.size * math.log(size) + self.tokens * math.log(tokens)
        # Studies that are nearly alike give exponents that lead out of what a float can hold.
        return math.exp(min(max(log, -LARGEST_LOG), LARGEST_LOG))


@dataclass(frozen=True)
class Scaling:
    """The laws that were fitted, and what to."""

    observations: list[Observation]
    rate: PowerLaw
    loss: PowerLaw | None
    """None where the objective is not positive everywhere, as forgetting: it has no logarithm."""


def fit_scaling(studies: list[str], *, objective: str) -> Scaling:
    """Fit the laws of rate and loss to the best trials of these studies.

    Raises InputError for studies that do not exist, look for another objective, or have no best trial yet.
    """
    if not studies:
        raise InputError("search.scaling_studies: empty; name earlier studies for search.prior=scaling to fit, e.g. [cpt_1m, cpt_5m]")
    return fit_laws([_observe(name, objective) for name in studies])


def fit_laws(observations: list[Observation]) -> Scaling:
    """The law of the best rates, and that of the losses where all of them are positive."""
    losses = [seen.loss for seen in observations]
    rate = fit_power_law(observations, [seen.rate for seen in observations])
    return Scaling(observations, rate, fit_power_law(observations, losses) if min(losses) > 0 else None)


class Placed(Protocol):
    """What has a model's size and a run's length."""

    @property
    def size(self) -> int: ...

    @property
    def tokens(self) -> int: ...


def fit_power_law(observations: Sequence[Placed], values: Sequence[float]) -> PowerLaw:
    """Least squares in logarithms, with as many of the terms size and tokens as the observations can tell apart. values: positive."""
    import numpy as np

    columns = {"intercept": np.ones(len(observations))}
    for term in ("size", "tokens"):
        column = np.log([getattr(seen, term) for seen in observations])
        # Centred, so that the rank does not hang on how far the logarithms lie from 0.
        centred = [other - other.mean() for name, other in columns.items() if name != "intercept"] + [column - column.mean()]
        if np.linalg.matrix_rank(np.stack(centred), tol=1e-6) == len(centred):
            columns[term] = column
    design, target = np.stack(list(columns.values()), axis=1), np.log(values)
    coefficients, *_ = np.linalg.lstsq(design, target, rcond=None)
    freedom = len(observations) - len(columns)
    spread = math.exp(math.sqrt(float(((target - design @ coefficients) ** 2).sum()) / freedom)) if freedom > 0 else None
    found = dict(zip(columns, map(float, coefficients), strict=True))
    return PowerLaw(found["intercept"], found.get("size", 0.0), found.get("tokens", 0.0), spread)


def scaled_prior(scaling: Scaling, space: Space, model: ModelConfig, tokens: int) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """The prior of the learning rate for this model and length, and the fit as JSON. Raises InputError where the rate has no log range."""
    parameter = next((parameter for parameter in space.parameters if parameter.key == PARAMETER), None)
    if parameter is None or not parameter.log:
        raise InputError(f"search.prior=scaling: needs {PARAMETER} in the space, on a log scale")
    size = model_size(model)
    predicted = scaling.rate.at(size, tokens)
    spread = max(LEAST_SPREAD, scaling.rate.spread or UNKNOWN_SPREAD)
    loss = scaling.loss.at(size, tokens) if scaling.loss else None
    fit = {**asdict(scaling), "size": size, "tokens": tokens, "predicted_rate": predicted, "predicted_loss": loss}
    return {PARAMETER: {"mean": float(parameter.nearest(predicted)), "spread": spread}}, fit


def scaling_text(fit: dict[str, Any]) -> str:
    """The fit in one line, from its JSON."""
    law = fit["rate"]
    terms = [
        f"{math.exp(law['intercept']):.3g}",
        *(f"{name}^{law[term]:.3g}" for name, term in (("N", "size"), ("D", "tokens")) if law[term]),
    ]
    spread = f"±×{law['spread']:.2f}" if law["spread"] else "of unknown spread"
    return f"best rate = {' · '.join(terms)} over {len(fit['observations'])} studies, {spread}: {fit['predicted_rate']:.3g} here"


def _observe(name: str, objective: str) -> Observation:
    if name.startswith("best/"):
        return observe_recipe(bundle_of(name, "search.scaling_studies"), objective)
    study = load_study(find_study(name))
    where = f"search.scaling_studies: {name}"
    if study.objective.metric != objective:
        raise InputError(f"{where}: looks for {study.objective.metric}, not for {objective}; their best rates are not comparable")
    best = study.best
    if best is None or best.result.objective is None:
        raise InputError(f"{where}: no complete trial within the constraints yet")
    size, tokens, rate = model_size(to_section(ModelConfig, best.config["model"])), best.result.tokens.length, best.config["optim"]["lr"]
    if best.result.tokens.read:
        raise InputError(f"{where}: its best trial trained nothing; a power law of the best rate is of runs that train")
    if not (tokens > 0 and rate > 0):
        raise InputError(f"{where}: its best trial trained {tokens} tokens at a rate of {rate}; a power law needs more than 0 of both")
    return Observation(study.name, size, tokens, float(rate), best.result.objective)


def observe_recipe(directory: BundleDirectory, objective: str) -> Observation:
    """The best of a recipe's search. Raises InputError where it looked for something else, or its model's size is not known."""
    recipe = directory.read()
    where = f"recipe {recipe.name}"
    if recipe.metric != objective:
        raise InputError(f"{where}: looks for {recipe.metric}, not for {objective}; their best rates are not comparable")
    rate = read_mapping(directory.config, holds="the resolved configuration of a recipe").get("optim", {}).get("lr")
    size, tokens = recipe.model.get("size"), recipe.tokens.length if recipe.steps else 0
    if not isinstance(size, int) or not isinstance(rate, int | float) or recipe.objective is None or not (tokens > 0 and rate > 0):
        raise InputError(f"{where}: lacks the size of its model, its learning rate, its tokens or its objective")
    return Observation(study=f"best/{recipe.name}", size=size, tokens=tokens, rate=float(rate), loss=recipe.objective)


def model_size(model: ModelConfig) -> int:
    """Parameters without embeddings, biases and norms, of a model of Llama's kind with this shape; without loading it.

    Raises InputError for a pretrained model whose shape cannot be read from a local config.json.
    """
    frame = model.frame
    if frame is None:
        width, layers, heads = model.hidden_size, model.layers, model.heads
        kv_heads, head = model.kv_heads or heads, width // heads
        inner = model.intermediate_size or math.ceil(8 * width / 3 / 32) * 32
        matrices = 3
    else:
        shape = _shape(Path(frame[1]) / "config.json")
        try:
            width = shape.get("hidden_size") or shape["n_embd"]
            layers = shape.get("num_hidden_layers") or shape["n_layer"]
            heads = shape.get("num_attention_heads") or shape["n_head"]
        except KeyError as error:
            raise InputError(f"{frame[0]}={frame[1]}: its config.json does not give its size ({error.args[0]} is absent)") from None
        kv_heads, head = shape.get("num_key_value_heads") or heads, shape.get("head_dim") or width // heads
        inner = shape.get("intermediate_size") or shape.get("n_inner") or 4 * width
        matrices = 3 if "num_hidden_layers" in shape else 2
    return int(layers * (2 * width * head * (heads + kv_heads) + matrices * width * inner))


def _shape(path: Path) -> dict[str, Any]:
    try:
        document = as_mapping(read_json(path), path)
    except (OSError, DamagedError) as error:
        raise InputError(f"{path}: the size of the model is needed for the power law, and cannot be read: {error}") from None
    return document
