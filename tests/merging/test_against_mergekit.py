"""mergekit itself beside us: the methods on the same tensors, and whole recipes on the same models.

What differs by intent is listed in docs/guides/merging.md; it is kept out of these inputs, or has a test of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from harness.config.merge_methods import METHODS, MergeMethod
from harness.merging.mergekit import read_mergekit
from harness.merging.methods.build import merged_rows
from harness.merging.operands import ArrayRows, Floats, Operand, Operands
from harness.merging.options import Options
from harness.merging.plan import plan_merge
from harness.merging.random_masks import Noise
from harness.models.ingredients import sources_of
from tests.merging.models import merged_values

pytestmark = pytest.mark.slow
SHAPE = (37, 24)
NOT_HERE = "mergekit is not installed; make test installs it, with the other packages of harness[dev]"


@pytest.fixture(scope="module")
def mergekit() -> Any:
    pytest.importorskip("mergekit", reason=NOT_HERE)
    import mergekit.merge_methods

    return mergekit.merge_methods


@dataclass(frozen=True)
class Recorded(Noise):
    """Numbers that keep what torch.bernoulli kept, in the order in which it was asked."""

    masks: dict[str, torch.Tensor] = field(default_factory=dict)

    def uniform(self, ingredient: str, tensor: str, start: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        kept = self.masks[ingredient].reshape(-1)[start : start + count]
        return np.where(kept.numpy() > 0.0, 0.0, 1.0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The masks that mergekit draws."""
    masks: list[torch.Tensor] = []
    bernoulli = torch.bernoulli

    def record(chances: torch.Tensor) -> torch.Tensor:
        masks.append(bernoulli(chances))
        return masks[-1]

    monkeypatch.setattr(torch, "bernoulli", record)
    return masks


@dataclass(frozen=True)
class Case:
    """A method with its parameters, by mergekit's names."""

    method: MergeMethod
    ours: dict[str, Any] = field(default_factory=dict)
    """By our names: of an ingredient, or of all."""
    theirs: dict[str, Any] = field(default_factory=dict)
    weights: tuple[float, ...] = (0.5, 0.3, -0.2)
    base: bool = True
    tolerance: float = 1e-6

    @property
    def id(self) -> str:
        return "-".join([self.method, *(f"{name}={value}" for name, value in self.ours.items()), *([] if self.base else ["no base"])])


SPARSE = {"density": 0.4}
CASES = [
    Case("linear", base=False),
    Case("linear", {"normalize": False}, {"normalize": False}, base=False),
    Case("task_arithmetic", {"scale": 0.8}, {"lambda": 0.8}),
    Case("task_arithmetic", {"normalize": True}, {"normalize": True}),
    *(Case("slerp", weights=(t,), theirs={"t": t}) for t in (0.0, 0.3, 1.0)),
    Case("nuslerp", weights=(0.7, 0.3)),
    Case("nuslerp", weights=(0.7, 0.3), base=False),
    Case("nuslerp", {"by_row": True}, {"nuslerp_flatten": False}, weights=(0.7, 0.3)),
    Case("multislerp"),
    Case("multislerp", {"normalize": False}, {"normalize_weights": False}, base=False),
    Case("karcher", weights=(1.0, 1.0, 1.0), base=False),
    Case("model_stock", weights=(1.0, 1.0, 1.0)),
    *(Case("ties", {"density": density, "scale": 1.3}, {"density": density, "lambda": 1.3}) for density in (0.0, 0.0001, 0.4, 1.0)),
    Case("ties", {**SPARSE, "normalize": False}, {**SPARSE, "normalize": False}),
    *(
        Case(method, {**SPARSE, "gamma": 0.1, "scale": 0.7}, {**SPARSE, "gamma": 0.1, "lambda": 0.7})
        for method in ("breadcrumbs", "breadcrumbs_ties")
    ),
    *(Case(method, SPARSE, SPARSE) for method in ("dare_linear", "dare_ties")),
    *(Case(method, {**SPARSE, "rescale": "none"}, {**SPARSE, "rescale": False}) for method in ("dare_linear", "dare_ties")),
    *(Case(method, {**SPARSE, "epsilon": 0.2}, {**SPARSE, "epsilon": 0.2}) for method in ("della", "della_linear")),
    *(Case("sce", {"topk": share}, {"select_topk": share}, weights=(1.0, 1.0, 1.0)) for share in (0.3, 1.0)),
    Case("passthrough", weights=(0.5,), theirs={"scale": 0.5}, base=False),
]


def models(count: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A base, and so many that agree in part of what they changed."""
    generator = torch.Generator().manual_seed(0)
    base, common = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    return base, [base + 0.1 * (common + torch.randn(SHAPE, generator=generator)) for _ in range(count)]


def theirs(methods: Any, case: Case, base: torch.Tensor, others: list[torch.Tensor]) -> torch.Tensor:
    from mergekit.merge_methods.base import TensorGroup

    method = methods.get(case.method)
    names = {parameter.name for parameter in method.spec.parameters}
    group = TensorGroup.from_tensors([base, *others], base_index=0) if case.base else TensorGroup.from_tensors(others)
    weights = {"weight": list(case.weights)} if "weight" in names else {}
    (found,) = method((group,), parameters={**weights, **case.theirs})
    return found


def ours(case: Case, base: torch.Tensor, others: list[torch.Tensor], masks: list[torch.Tensor]) -> Floats:
    names = [str(index) for index in range(len(others))]
    own = {name: case.ours[name] for name in ("density", "gamma", "epsilon") if name in case.ours}
    told = {name: value for name, value in case.ours.items() if name not in own}
    ingredients = [
        Operand(name=name, rows=ArrayRows(other.numpy()), weight=weight, **own)
        for name, other, weight in zip(names, others, case.weights, strict=True)
    ]
    operands = Operands("w", ingredients, ArrayRows(base.numpy()) if case.base else None, block_elements=5 * SHAPE[1])
    options = Options(noise=Recorded(0, dict(zip(names, masks, strict=False))), **told)
    return np.concatenate(list(merged_rows(case.method, operands, options)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_method_gives_the_same_numbers(case: Case, mergekit: Any, drawn: list[torch.Tensor]) -> None:
    base, others = models(len(case.weights))
    torch.manual_seed(1)
    wanted = theirs(mergekit, case, base, others)
    found = ours(case, base, others, drawn)
    assert len(drawn) == (len(others) if case.method.startswith(("dare", "della")) else 0)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=case.tolerance)


def test_every_method_is_compared() -> None:
    assert {case.method for case in CASES} == set(METHODS)


DIFFERENT: dict[MergeMethod, tuple[float, str]] = {
    "sce": (1e-5, "it takes equal weights where the mean squares of all changes together are below 1e-6"),
    "model_stock": (1e-5, "it takes norms to be at least 1e-3"),
}
"""Methods, a size of changes, and what mergekit does with changes that small."""


@pytest.mark.parametrize("method", DIFFERENT)
def test_changes_of_any_size_are_merged_alike(method: MergeMethod, mergekit: Any) -> None:
    """Of changes that are a hundred thousand times smaller ours are as much smaller; mergekit's are not, see the guide."""
    size, _ = DIFFERENT[method]
    case = Case(method, weights=(1.0, 1.0, 1.0))
    base = torch.zeros(SHAPE)
    _, others = models(3)
    large = [(index + 1) * (other - models(3)[0]) for index, other in enumerate(others)]
    small = [size * other for other in large]
    whole = ours(case, base, large, [])
    np.testing.assert_allclose(ours(case, base, small, []) / size, whole, rtol=1e-4, atol=1e-6)
    assert float((theirs(mergekit, case, base, large) - torch.from_numpy(whole)).abs().max()) < 1e-5
    assert float((theirs(mergekit, case, base, small) / size - torch.from_numpy(whole)).abs().max()) > 1e-2


NAMES = ("base", "a", "b")
MODELS = [{"model": name, "parameters": {"weight": weight}} for name, weight in (("a", 0.6), ("b", [0.2, 0.5, 1.0]))]
RECIPES: dict[str, dict[str, Any]] = {
    "filters and gradients": {
        "merge_method": "task_arithmetic",
        "base_model": "base",
        "models": [
            {
                "model": "a",
                "parameters": {"weight": [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"filter": "norm", "value": 1}, {"value": 0.3}]},
            },
            {"model": "b", "parameters": {"weight": [{"filter": "mlp", "value": [1, 0]}, {"value": 0.5}]}},
        ],
        "parameters": {"lambda": 0.7, "density": 0.5},
    },
    "slerp of slices": {
        "merge_method": "slerp",
        "base_model": "a",
        "slices": [{"sources": [{"model": "a", "layer_range": [0, 4]}, {"model": "b", "layer_range": [0, 4]}]}],
        "parameters": {"t": [{"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]}, {"value": 0.5}]},
    },
    "ties, its base listed": {
        "merge_method": "ties",
        "base_model": "base",
        "models": [{"model": "base"}, *MODELS],
        "parameters": {"density": 0.5, "normalize": True, "int8_mask": True},
    },
    "layers twice": {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": "a", "layer_range": [0, 3]}]}, {"sources": [{"model": "b", "layer_range": [1, 4]}]}],
    },
    "slices of one layer": {
        "merge_method": "linear",
        "slices": [
            {"sources": [{"model": name, "layer_range": [layer, layer + 1], "parameters": {"weight": weight}} for name, weight in pair]}
            for layer, pair in enumerate([(("a", [0.2, 0.8]), ("b", 0.5)), (("a", 0.5), ("b", 0.1))])
        ],
    },
    "rounded once": {"merge_method": "linear", "models": MODELS, "dtype": "float32", "out_dtype": "bfloat16"},
}


@pytest.fixture(scope="module")
def home(mergekit: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with three Llamas of four layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    home = tmp_path_factory.mktemp("mergekit")
    shape = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1
    )
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        LlamaForCausalLM(shape).save_pretrained(home / name)
    return home


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_makes_the_same_model(name: str, here: Path, tmp_path: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from safetensors.torch import load_file

    document = RECIPES[name]
    path = tmp_path / "mergekit.yml"
    path.write_text(yaml.safe_dump(document))
    run_merge(MergeConfiguration.model_validate(document), str(tmp_path / "theirs"), MergeOptions(quiet=True, write_model_card=False))
    wanted = {name: value for file in (tmp_path / "theirs").glob("*.safetensors") for name, value in load_file(file).items()}

    recipe = read_mergekit(path, seed=0)
    plan = plan_merge(recipe, sources_of(recipe))
    found = merged_values(plan)
    assert found.keys() == wanted.keys()
    half = document.get("out_dtype") == "bfloat16"
    assert {target.dtype for target in plan.targets} == {"BF16" if half else "F32"}
    for tensor, value in wanted.items():
        merged = torch.from_numpy(found[tensor]).to(value.dtype)
        torch.testing.assert_close(merged, value, rtol=2**-8 if half else 0, atol=1e-6, msg=lambda text, tensor=tensor: f"{tensor}: {text}")
    assert plan.config["num_hidden_layers"] == yaml.safe_load((tmp_path / "theirs" / "config.json").read_text())["num_hidden_layers"]
