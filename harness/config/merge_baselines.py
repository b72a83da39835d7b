"""What a searched merge has to beat: each ingredient alone, their mean, and a few single scales for all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.config.schema import MergeConfig

SCALES = (0.3, 0.5, 0.7, 1.0)
"""λ of base + λ Σ changes. The scale matters more than the method, so that a search has to beat the best of a few."""
KEY = "model.merge"


def baseline_points(merge: MergeConfig, searched: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """By what each is called, its values by configuration key. searched: keys of the space; weights of groups that are among them are the
    ingredient's, so that they make no difference."""
    names = list(merge.ingredients)
    rows = {f"{name} alone": [float(other == name) for other in names] for name in names}
    rows["their mean"] = [1 / len(names)] * len(names)
    if merge.base is not None:
        rows |= {f"scale {scale:g}": [scale] * len(names) for scale in SCALES}
    method = "linear" if merge.base is None else "task_arithmetic"
    shared = {f"{KEY}.method": method, f"{KEY}.scale": 1.0}
    points = {}
    for label, weights in rows.items():
        point: dict[str, Any] = dict(shared)
        for name, weight in zip(names, weights, strict=True):
            point[f"{KEY}.ingredients.{name}.weight"] = weight
            own = merge.ingredients[name].weights
            groups = {group: f"{KEY}.ingredients.{name}.weights.{group}" for group in (*merge.groups, *own)}
            point |= {key: weight for group, key in groups.items() if group in own or key in searched}
        points[label] = point
    return points


def baseline_of(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a run's configuration is one of: ("ingredient", its name), ("scale", λ), or None of neither. config: config.yaml."""
    merge = config.get("model", {}).get("merge", {})
    method = merge.get("method")
    if method not in ("linear", "task_arithmetic"):
        return None
    scale = float(merge.get("scale", 1.0)) if method == "task_arithmetic" else 1.0
    ingredients = merge.get("ingredients", {})
    weights = {name: float(one.get("weight", 1.0)) * scale for name, one in ingredients.items()}
    if any(group * scale != weights[name] for name, one in ingredients.items() for group in (one.get("weights") or {}).values()):
        return None
    taken = [name for name, weight in weights.items() if weight != 0.0]
    normalized = bool(method == "linear" if merge.get("normalize") is None else merge["normalize"])
    if len(taken) == 1 and (weights[taken[0]] == 1.0 or normalized):
        return "ingredient", taken[0]
    if len(weights) > 1 and len(set(weights.values())) == 1 and taken:
        return "scale", "mean" if normalized else f"{next(iter(weights.values())):.4g}"
    return None
