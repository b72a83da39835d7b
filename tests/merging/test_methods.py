"""Methods on small tensors: values of mergekit 0.1.5, and what must hold of any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest

from harness.config.merge_methods import METHODS, MergeMethod
from harness.merging.methods.build import merged_rows
from harness.merging.methods.span import gram_matrix, model_stock_share
from harness.merging.operands import ArrayRows, Floats, Operand, Operands
from harness.merging.options import Options
from harness.merging.random_masks import Noise

INDEX = np.arange(8)
BASE = np.sin(0.1 * INDEX)
MODELS = {name: BASE + 0.1 * np.sin(rate * INDEX + phase) for name, rate, phase in (("a", 0.7, 1.0), ("b", 1.3, 2.0), ("c", 2.1, 3.0))}
AB = {"a": 0.6, "b": 0.4}
ABC = {"a": 0.5, "b": 0.3, "c": 0.2}
DARE = {"a": "10111010", "b": "10111110"}
DELLA = {"a": "10111110", "b": "10111111"}


def rows(values: Any) -> ArrayRows:
    """Two rows of four."""
    return ArrayRows(np.asarray(values, dtype=np.float64).astype(np.float32).reshape(2, -1))


@dataclass(frozen=True)
class Given(Noise):
    """Numbers that keep what is 1 in the masks of the ingredients, by name."""

    masks: tuple[tuple[str, str], ...] = ()

    def uniform(self, ingredient: str, tensor: str, start: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        mask = dict(self.masks)[ingredient][start : start + count]
        return np.array([0.0 if kept == "1" else 1.0 for kept in mask])


def merged(
    method: MergeMethod, weights: dict[str, float], *, base: bool = True, masks: dict[str, str] | None = None, block: int = 8, **told: Any
) -> Floats:
    """The result, flat."""
    own = {name: told.pop(name) for name in ("density", "gamma", "epsilon") if name in told}
    noise = Given(0, tuple(masks.items())) if masks else Noise(0)
    ingredients = [Operand(name=name, rows=rows(MODELS[name]), weight=weight, **own) for name, weight in weights.items()]
    operands = Operands("w", ingredients, rows(BASE) if base else None, block_elements=block)
    return np.concatenate([part.reshape(-1) for part in merged_rows(method, operands, Options(noise=noise, **told))])


GOLDEN: dict[str, tuple[Any, str]] = {
    "linear": (
        lambda: merged("linear", {"a": 0.3, "b": 0.7}, base=False),
        "0.088895 0.118541 0.149375 0.270596 0.426619 0.505994 0.512485 0.563383",
    ),
    "slerp": (lambda: merged("slerp", {"a": 0.3}), "0.025364 0.130051 0.219679 0.297741 0.372250 0.451530 0.539862 0.635057"),
    "nuslerp": (
        lambda: merged("nuslerp", {"a": 0.7, "b": 0.3}),
        "0.124754 0.185548 0.212856 0.280799 0.371259 0.426999 0.462997 0.559338",
    ),
    "multislerp": (
        lambda: merged("multislerp", ABC, base=False),
        "0.073574 0.130313 0.222899 0.293041 0.367980 0.473865 0.517222 0.586079",
    ),
    "multislerp with a base": (
        lambda: merged("multislerp", ABC),
        "0.124288 0.142821 0.234367 0.284341 0.344244 0.466264 0.473899 0.527369",
    ),
    "karcher": (lambda: merged("karcher", ABC, base=False), "0.064472 0.100496 0.218459 0.292725 0.369108 0.504335 0.532535 0.576787"),
    "task arithmetic": (
        lambda: merged("task_arithmetic", AB, scale=0.8),
        "0.069488 0.142385 0.199293 0.285552 0.385447 0.458056 0.510509 0.594446",
    ),
    "ties": (lambda: merged("ties", AB, density=0.5), "0.086860 0.199000 0.099300 0.295520 0.389418 0.381673 0.476297 0.544762"),
    "ties, not normalized": (
        lambda: merged("ties", AB, density=0.5, normalize=False),
        "0.086860 0.159333 0.158922 0.295520 0.389418 0.420774 0.511635 0.604436",
    ),
    "breadcrumbs": (
        lambda: merged("breadcrumbs", AB, density=0.5, gamma=0.25),
        "0.086860 0.099833 0.239197 0.280565 0.384454 0.511365 0.511635 0.644218",
    ),
    "sce": (lambda: merged("sce", ABC, topk=0.5), "0.000000 0.040554 0.272340 0.295520 0.312301 0.559574 0.564642 0.644218"),
    "dare_linear": (
        lambda: merged("dare_linear", AB, density=0.5, masks=DARE),
        "0.135493 0.099833 0.219731 0.280906 0.364923 0.520054 0.452318 0.644218",
    ),
    "dare_linear, scaled as in the paper": (
        lambda: merged("dare_linear", AB, density=0.5, masks=DARE, rescale="density"),
        "0.173720 0.099833 0.200230 0.270600 0.379489 0.543305 0.429310 0.644218",
    ),
    "dare_ties": (
        lambda: merged("dare_ties", AB, density=0.5, masks=DARE),
        "0.135493 0.099833 0.270292 0.276497 0.324540 0.520054 0.452318 0.644218",
    ),
    "della_linear": (
        lambda: merged("della_linear", AB, density=0.5, epsilon=0.2, masks=DELLA),
        "0.105059 0.099833 0.211979 0.283454 0.372976 0.433809 0.478579 0.603236",
    ),
    "della": (
        lambda: merged("della", AB, density=0.5, epsilon=0.2, masks=DELLA),
        "0.105059 0.099833 0.289096 0.257005 0.307507 0.348561 0.478579 0.541763",
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_values_are_those_of_mergekit(case: str) -> None:
    make, wanted = GOLDEN[case]
    np.testing.assert_allclose(make(), np.array(wanted.split(), dtype=np.float64), atol=1e-6, rtol=0)


def test_model_stock_agrees_with_mergekit_but_never_leaves_the_base_the_wrong_way() -> None:
    operands = Operands("w", [Operand(name=name, rows=rows(MODELS[name])) for name in ABC], rows(BASE))
    share = model_stock_share(gram_matrix(operands, lambda block: block.changes))
    assert share == pytest.approx(-0.168623, abs=1e-6)
    mean = np.mean([MODELS[name] for name in ABC], axis=0)
    wanted = ["-0.010634", "0.100350", "0.195997", "0.296688", "0.393564", "0.475914", "0.571062", "0.657039"]
    np.testing.assert_allclose(share * mean + (1 - share) * BASE, np.array(wanted, dtype=np.float64), atol=1e-6)
    np.testing.assert_array_equal(merged("model_stock", ABC), BASE.astype(np.float32))


def test_model_stock_of_alike_changes_is_nearly_their_mean() -> None:
    change = 0.1 * np.sin(INDEX + 1.0)
    models = [BASE + change, BASE + 0.9 * change]
    operands = Operands("w", [Operand(name=str(index), rows=rows(model)) for index, model in enumerate(models)], rows(BASE))
    (result,) = merged_rows("model_stock", operands, Options())
    np.testing.assert_allclose(result.reshape(-1), BASE + 0.95 * change, atol=1e-6)


ENOUGH: dict[MergeMethod, Sequence[str]] = {
    method: ["a", "b", "c"][: (1 if facts.most == 1 else facts.most or 3)] for method, facts in METHODS.items()
}
PARTIAL = {"density": 0.5, "gamma": 0.25, "epsilon": 0.2}


def parameters(method: MergeMethod) -> dict[str, float]:
    facts = METHODS[method]
    return {name: value for name, value in PARTIAL.items() if name in facts.of_ingredients} | ({"topk": 0.5} if method == "sce" else {})


@pytest.mark.parametrize("method", get_args(MergeMethod))
def test_how_many_rows_are_read_at_a_time_is_no_part_of_the_result(method: MergeMethod) -> None:
    weights, base = dict.fromkeys(ENOUGH[method], 0.5), METHODS[method].base != "none"
    whole = merged(method, weights, base=base, **parameters(method))
    np.testing.assert_array_equal(merged(method, weights, base=base, block=4, **parameters(method)), whole)


@pytest.mark.parametrize("method", [one for one in get_args(MergeMethod) if one not in ("karcher", "multislerp", "passthrough")])
def test_equal_models_are_merged_into_the_same(method: MergeMethod) -> None:
    """The base is another, so that a change of all of them stays whole."""
    count = len(ENOUGH[method])
    facts = METHODS[method]
    weight = 1.0 if facts.most == 1 else 1.0 / count
    base = rows(BASE) if facts.base != "none" else None
    operands = Operands("w", [Operand(name=str(index), rows=rows(MODELS["a"]), weight=weight) for index in range(count)], base)
    result = np.concatenate([part.reshape(-1) for part in merged_rows(method, operands, Options(normalize=None))])
    if method in ("breadcrumbs", "breadcrumbs_ties"):  # int(0.01 * 8) is 0: nothing is dropped
        assert operands.ingredients[0].gamma * 8 < 1
    np.testing.assert_allclose(result, MODELS["a"], atol=3e-7)


@pytest.mark.parametrize("method", [one for one, facts in METHODS.items() if "density" in facts.of_ingredients])
def test_density_0_is_the_base(method: MergeMethod) -> None:
    np.testing.assert_array_equal(merged(method, AB, density=0.0), BASE.astype(np.float32))


@pytest.mark.parametrize("method", [one for one in get_args(MergeMethod) if METHODS[one].most is None])
def test_the_order_of_the_ingredients_is_irrelevant(method: MergeMethod) -> None:
    weights, base = dict(ABC), METHODS[method].base != "none"
    reverse = dict(reversed(weights.items()))
    one, other = (merged(method, some, base=base, **parameters(method)) for some in (weights, reverse))
    np.testing.assert_allclose(one, other, atol=2e-7)


def test_slerp_by_0_is_the_base_and_by_1_the_ingredient() -> None:
    np.testing.assert_array_equal(merged("slerp", {"a": 0.0}), BASE.astype(np.float32))
    np.testing.assert_allclose(merged("slerp", {"a": 1.0}), MODELS["a"], atol=1e-7)


def test_nuslerp_by_row_is_that_of_every_row_alone() -> None:
    whole = merged("nuslerp", {"a": 0.7, "b": 0.3}, by_row=True)
    for half in (slice(0, 4), slice(4, 8)):
        parts = {
            name: Operand(name=name, rows=ArrayRows(MODELS[name].astype(np.float32)[None, half]), weight=w)
            for name, w in (("a", 0.7), ("b", 0.3))
        }
        operands = Operands("w", list(parts.values()), ArrayRows(BASE.astype(np.float32)[None, half]))
        (alone,) = merged_rows("nuslerp", operands, Options())
        np.testing.assert_allclose(whole[half], alone[0], atol=1e-7)


def test_a_mask_depends_on_its_ingredient_and_tensor_alone() -> None:
    noise = Noise(3)
    whole = noise.uniform("a", "w", 0, 1000)
    np.testing.assert_array_equal(np.concatenate([noise.uniform("a", "w", 0, 13), noise.uniform("a", "w", 13, 987)]), whole)
    assert abs(whole.mean() - 0.5) < 0.03
    for other in (Noise(4).uniform("a", "w", 0, 1000), noise.uniform("b", "w", 0, 1000), noise.uniform("a", "v", 0, 1000)):
        assert abs(np.corrcoef(whole, other)[0, 1]) < 0.1
    # What was merged once can be merged again.
    np.testing.assert_array_equal(whole[:3], [0.07415552134625614, 0.019146141596138477, 0.14400898665189743])


@pytest.mark.parametrize("method", ["multislerp", "karcher", "nuslerp", "model_stock", "slerp"])
def test_tensors_of_zeros_stay_zeros(method: MergeMethod) -> None:
    names = ENOUGH[method]
    base = rows(np.zeros(8)) if METHODS[method].base != "none" else None
    operands = Operands("w", [Operand(name=name, rows=rows(np.zeros(8)), weight=0.5) for name in names], base)
    (result,) = merged_rows(method, operands, Options())
    np.testing.assert_array_equal(result, np.zeros((2, 4), dtype=np.float32))
