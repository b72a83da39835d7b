"""Steering: what is found from pairs, where it is added, and which models it suits."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.errors import InputError
from harness.config.schema import AdapterConfig
from harness.generation.decode import CachedBatch, Reader
from harness.models.activations import checkpoint_activations
from harness.models.adapters.steering import (
    Directions,
    SteeringVector,
    add_steering,
    kernel,
    plan_steering,
    steering_vectors,
    without_steering,
)
from harness.models.answer_tokens import telling_answers
from harness.models.blocks import residual_blocks
from harness.models.isolation import document_leak
from harness.models.steering.extraction import (
    METHODS,
    Tokens,
    extract,
    mean_difference,
    opposed_share,
    pair_agreement,
    principal_component,
    random_direction,
)
from harness.training.predictions import answers_by
from tests.models.test_isolation import ISOLATED, LOST, RESCUED, build

IDS = torch.tensor([[5, 9, 12, 7, 3, 44, 8, 21]])
FAMILIES = {**ISOLATED, **RESCUED, **LOST, "gptj": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "rotary_dim": 8}}
WITHOUT_POSITIONS = {"bloom", "mpt", "mamba2"}
"""Their blocks are not told positions."""
POSITIONS = ("all", "not_first", "answer", "prompt")
ANSWER = torch.tensor([[False, True, True, False, False, True, True, True]])
"""Of IDS, as two documents of three and five tokens."""


def directions(model: PreTrainedModel, **given: Any) -> Directions:
    blocks, width = len(residual_blocks(model)), model.config.hidden_size
    vectors = {block: 3 * random_direction(width, draw=1, block=block) for block in range(blocks)}
    return Directions(vectors, torch.linspace(1, 2, blocks), **given)


def steered(model: PreTrainedModel, **adapter: Any) -> PreTrainedModel:
    add_steering(model, plan_steering(AdapterConfig(name="steering", **adapter), directions(model)))
    return model.eval()


def logits(model: Any, ids: Tensor = IDS, answer: Tensor | None = None, **given: Any) -> Tensor:
    with torch.no_grad(), nullcontext() if answer is None else telling_answers(model, lambda: answer):
        found: Tensor = model.eval()(input_ids=ids, use_cache=False, **given).logits
    return found


def test_a_kernel_is_a_triangle_that_ends_with_the_model() -> None:
    assert kernel(3, 0, 5) == {3: 1.0}
    assert kernel(2, 1, 5) == {1: 0.25, 2: 0.5, 3: 0.25}
    assert kernel(0, 1, 5) == {0: 2 / 3, 1: 1 / 3}


def test_directions_by_arithmetic() -> None:
    differences = torch.tensor([[2.0, 1.0], [2.0, -1.0]], dtype=torch.float64)
    assert mean_difference(differences).tolist() == [2.0, 0.0]
    # Centred, the first component would be [0, 1].
    torch.testing.assert_close(principal_component(differences), torch.tensor([2.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(principal_component(-differences), torch.tensor([-2.0, 0.0], dtype=torch.float64))
    assert pair_agreement(differences) == pytest.approx(2 / 5**0.5)
    # The others of each: 0, 0 and 2.
    assert opposed_share(torch.tensor([[1.0], [1.0], [-1.0]])) == pytest.approx(1 / 3)
    assert random_direction(32, draw=1, block=2).tolist() == random_direction(32, draw=1, block=2).tolist()
    assert random_direction(32, draw=0, block=2).norm() == pytest.approx(1)
    assert abs(float(random_direction(4096, draw=0, block=2) @ random_direction(4096, draw=1, block=2))) < 0.1


def test_extraction_in_batches_is_that_of_each_text_alone() -> None:
    model, rng = build("llama", ISOLATED["llama"]).eval(), np.random.default_rng(0)
    sides = [Tokens(rng.integers(64, size=length), np.arange(length) >= length - 3) for length in (5, 9, 7, 6, 12, 4)]
    sides[2] = Tokens(sides[2].ids, sides[2].is_answer & (np.arange(7) < 6))  # a turn that something closes
    found = extract(model, sides, batch_tokens=24, advance=lambda texts: None)
    states: dict[str, list[list[Tensor]]] = {"last": [], "answer": []}
    norms = []
    for side in sides:
        outputs: list[Tensor] = []
        handles = [block.register_forward_hook(lambda _, args, output: outputs.append(output[0])) for block in residual_blocks(model)]  # noqa: B023
        logits(model, torch.from_numpy(side.ids)[None])
        for handle in handles:
            handle.remove()
        places = torch.from_numpy(np.flatnonzero(side.is_answer))
        states["last"].append([hidden[places[-1]] for hidden in outputs])
        states["answer"].append([hidden[places].mean(dim=0) for hidden in outputs])
        norms.append(torch.stack([hidden[1:].norm(dim=-1) for hidden in outputs]))
    torch.testing.assert_close(found.norms, torch.cat(norms, dim=1).mean(dim=1))
    for reading, of_texts in states.items():
        for block in range(2):
            differences = torch.stack([of_texts[i][block] - of_texts[i + 1][block] for i in (0, 2, 4)]).double()
            for method, find in METHODS.items():
                torch.testing.assert_close(found.vectors[method, reading][block], find(differences).float(), rtol=1e-4, atol=1e-5)  # type: ignore[index]
            assert float(found.agreement[reading][block]) == pytest.approx(pair_agreement(differences), abs=1e-5)  # type: ignore[index]
    assert found.pairs == 3
    assert type(found).of_tensors(found.tensors()).vectors.keys() == found.vectors.keys()


@pytest.mark.parametrize("family", ISOLATED)
def test_it_is_what_is_added_to_the_output_of_a_block(family: str) -> None:
    model = build(family, ISOLATED[family])
    expected = 0.5 * torch.linspace(1, 2, 2)[1] * random_direction(32, draw=1, block=1)
    handle = residual_blocks(model)[1].register_forward_hook(lambda _, args, output: output + expected)
    by_hand = logits(model)
    handle.remove()
    before = logits(model)
    torch.testing.assert_close(logits(steered(model, block=1, coefficient=0.5)), by_hand, rtol=1e-5, atol=1e-5)
    with without_steering(model):
        assert torch.equal(logits(model), before)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        name for name, _ in model.named_parameters() if name.endswith("steering.vector")
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_steered_or_refused(family: str) -> None:
    """Whatever its blocks return: a coefficient of 0 changes no bit, another one every token's logits."""
    before = logits(build(family, FAMILIES[family]))
    assert torch.equal(logits(steered(build(family, FAMILIES[family]), coefficient=0.0)), before)
    moved = (logits(steered(build(family, FAMILIES[family]), coefficient=1.0, width=1)) - before).abs().amax(dim=-1)
    assert bool((moved > 1e-4).all())
    if family in WITHOUT_POSITIONS:
        with pytest.raises(InputError, match=r"adapter\.positions=not_first: .* valid for it: all"):
            steered(build(family, FAMILIES[family]), positions="not_first")
        return
    moved = (logits(steered(build(family, FAMILIES[family]), block=1, coefficient=1.0, positions="not_first")) - before).abs().amax(dim=-1)
    assert float(moved[0, 0]) == 0
    assert bool((moved[0, 1:] > 1e-4).all())


@pytest.mark.parametrize("family", [*ISOLATED, "bloom", "gptj"])
@pytest.mark.parametrize(("positions", "acts"), [("answer", ANSWER), ("prompt", ~ANSWER)])
def test_answers_are_steered_where_they_are_told(family: str, positions: str, acts: Tensor) -> None:
    """Also in a family whose blocks are not told positions."""
    before = logits(build(family, FAMILIES[family]))
    model = steered(build(family, FAMILIES[family]), block=1, coefficient=1.0, positions=positions)
    # Behind the last block a token moves its own logits alone.
    moved = (logits(model, answer=ANSWER) - before).abs().amax(dim=-1)
    assert torch.equal(moved > 1e-4, acts)
    assert float(moved[~acts].max()) < 1e-6


@cache
def steered_at(positions: str) -> Any:
    return steered(build("llama", ISOLATED["llama"]), coefficient=1.0, positions=positions)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_packed_alone_and_written_with_a_cache_are_the_same(data: st.DataObject) -> None:
    """Documents of a prompt and an answer, in one row, each by itself, and prompt and answer apart, as when they are written."""
    positions = data.draw(st.sampled_from(POSITIONS))
    model = steered_at(positions)
    prompts = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    lengths = [prompt + data.draw(st.integers(1, 4)) for prompt in prompts]
    ids = torch.randint(64, (1, sum(lengths)), generator=torch.Generator().manual_seed(sum(lengths)))
    places = [torch.arange(length) for length in lengths]
    answers = [place >= prompt for place, prompt in zip(places, prompts, strict=True)]
    packed = logits(model, ids, torch.cat(answers)[None], position_ids=torch.cat(places)[None])
    for document, found, prompt, answer in zip(ids.split(lengths, 1), packed.split(lengths, 1), prompts, answers, strict=True):
        alone = logits(model, document, answer[None])
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)
        reader, batch = Reader(model), CachedBatch(Reader(model))
        with torch.no_grad():
            steps = [batch.replace([], [document[0, :prompt].tolist()], [0]), *(batch.step([int(one)]) for one in document[0, prompt:])]
            torch.testing.assert_close(torch.cat(steps), alone[0, prompt - 1 :], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(reader.alone(document[0].tolist(), prompt), alone[:, -1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_documents_of_a_row_do_not_see_each_other(positions: str) -> None:
    assert document_leak(steered(build("llama", ISOLATED["llama"]), coefficient=1.0, positions=positions)) < 1e-5


def test_an_answer_is_what_is_predicted() -> None:
    labels = torch.tensor([[-100, 4, 7, -100, -100, 2, -100, -100]])  # padding at the end
    assert answers_by(labels).tolist() == [[False, False, True, True, False, False, True, False]]


@pytest.mark.parametrize("positions", ["answer", "prompt"])
def test_activations_that_are_computed_again_are_the_same(positions: str) -> None:
    """trainer.gradient_checkpointing: the backward pass comes when nothing is told any more."""
    gradients = []
    for checkpoints in (False, True):
        model = build("llama", ISOLATED["llama"])
        add_steering(model, plan_steering(AdapterConfig(name="steering", block=0, positions=positions), directions(model)))  # type: ignore[arg-type]
        model.train()
        if checkpoints:
            checkpoint_activations(model)
        with telling_answers(model, lambda: ANSWER):
            loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
        loss.backward()
        gradients.append(steering_vectors(model)[0].vector.grad)
    assert torch.equal(*gradients)
    assert float(gradients[0].norm()) > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ISOLATED)
def test_an_ablated_direction_is_in_nothing_that_is_written(family: str) -> None:
    model, unit = build(family, FAMILIES[family]), random_direction(32, draw=1, block=1)
    before = logits(model)
    model = steered(model, block=1, operation="ablate")
    inside: list[Tensor] = []
    for block in residual_blocks(model):
        for part in block.modules():
            # What norms read is the stream, also between attention and MLP; their outputs are no sum of it.
            if "norm" in type(part).__name__.lower():
                part.register_forward_pre_hook(lambda _, args: inside.append(args[0]))
    after = logits(model)
    assert float((after - before).abs().max()) > 1e-4
    streams = [hidden @ unit for hidden in inside if hidden.shape[-1] == 32]
    assert len(streams) >= 2
    if family not in ("gemma2", "olmo2"):  # where some norms read what is about to be written
        assert max(float(part.abs().max()) for part in streams) < 1e-5
    with without_steering(model):
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("family", ["bloom", "opt"])
def test_a_family_whose_writes_are_not_known_is_not_ablated(family: str) -> None:
    with pytest.raises(InputError, match=rf"adapter\.operation=ablate: not for this model \({family}\): .* valid for it: add"):
        steered(build(family, FAMILIES[family]), operation="ablate")


def test_what_does_not_fit_is_refused() -> None:
    model = build("llama", ISOLATED["llama"])
    with pytest.raises(InputError, match=r"adapter\.block=2: the model has 2 blocks; valid: 0 to 1"):
        steered(model, block=2)
    own = directions(model)
    narrow = Directions({block: vector[:16] for block, vector in own.vectors.items()}, own.norms)
    with pytest.raises(InputError, match="its directions have 16 numbers, this model's hidden states 32"):
        add_steering(model, plan_steering(AdapterConfig(name="steering"), narrow))
    with pytest.raises(InputError, match="of a model of 3 blocks, this one has 2"):
        add_steering(model, plan_steering(AdapterConfig(name="steering", block=1), Directions(own.vectors, torch.ones(3))))
    zero = Directions({0: torch.zeros(32)}, own.norms)
    with pytest.raises(InputError, match=r"adapter\.block=0: the pairs do not differ there"):
        plan_steering(AdapterConfig(name="steering", block=0), zero)
    with pytest.raises(InputError, match=r"no direction for block 1; valid for adapter\.block: 0"):
        plan_steering(AdapterConfig(name="steering", block=1), Directions({0: torch.ones(32)}, own.norms))


def test_a_file_says_how_it_is_used_unless_the_configuration_does() -> None:
    own = Directions({0: torch.ones(32), 1: torch.ones(32)}, torch.tensor([1.0, 2.0]), "add", "not_first", {0: 0.1, 1: -0.3})
    plan = plan_steering(AdapterConfig(name="steering"), own)
    assert (plan.positions, plan.coefficients) == ("not_first", {0: 0.1, 1: -0.3})
    torch.testing.assert_close(plan.added(1), torch.full((32,), -0.6 / 32**0.5))
    scaled = plan_steering(AdapterConfig(name="steering", coefficient=0.5), own)
    assert scaled.coefficients == pytest.approx({0: -0.125, 1: 0.375}), "shared out among its blocks as its own is"
    assert plan_steering(AdapterConfig(name="steering", coefficient=0.5, width=1), own).coefficients == pytest.approx({0: 1 / 6, 1: 1 / 3})
    assert plan_steering(AdapterConfig(name="steering", block=0, positions="all"), own).coefficients == {0: 0.2}
    assert plan_steering(AdapterConfig(name="steering", operation="ablate"), own).coefficients == {1: 1.0}
    assert plan_steering(AdapterConfig(name="steering", sign=-1), own).coefficients == {0: -0.1, 1: 0.3}
    away = plan_steering(AdapterConfig(name="steering", sign=-1, coefficient=0.5), own)
    assert away.coefficients == pytest.approx({0: 0.125, 1: -0.375})
    with pytest.raises(InputError, match=r"adapter\.sign=-1: the direction is taken out, which has no sign; valid: 1"):
        plan_steering(AdapterConfig(name="steering", sign=-1), dataclasses.replace(own, operation="ablate"))


def test_a_random_direction_has_the_length_of_the_one_that_it_stands_for() -> None:
    model = build("llama", ISOLATED["llama"])
    plans = [
        plan_steering(AdapterConfig(name="steering", block=1, coefficient=0.5, **given), directions(model))
        for given in ({}, {"method": "random"}, {"method": "random", "draw": 1})
    ]
    added = [plan.added(1) for plan in plans]
    assert [float(vector.norm()) for vector in added] == pytest.approx([1.0, 1.0, 1.0])
    assert not torch.allclose(added[1], added[2])


def test_vectors_are_trained_and_keep_their_names() -> None:
    model = build("llama", ISOLATED["llama"])
    add_steering(model, plan_steering(AdapterConfig(name="steering", block=1, coefficient=0.0), directions(model)))
    loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
    loss.backward()
    ((block, vector),) = steering_vectors(model).items()
    assert block == 1
    assert isinstance(vector, SteeringVector)
    assert float(vector.vector.grad.norm()) > 0  # type: ignore[union-attr]
    assert [name for name in model.state_dict() if "steering" in name] == ["model.layers.1.steering.vector"]
