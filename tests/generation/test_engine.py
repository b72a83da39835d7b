"""Rows that are written together are what each is alone; and when a text ends."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from harness.config.errors import InputError
from harness.config.schema import SamplingConfig
from harness.generation.choice import Choice
from harness.generation.ends import with_stop_tokens
from harness.generation.engine import SHARD_ROWS
from harness.generation.row_state import RowState
from harness.generation.rows import Draw, Generation, Limits, NonFiniteLogitsError, Prompt
from harness.generation.samplers.rounding import CLOSE
from tests.generation.models import SHAPE, engine_of, random_model, random_rows

SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": SHAPE | {"head_dim": 8},
    "mistral": SHAPE | {"sliding_window": 8},
    "gemma2": SHAPE | {"head_dim": 8, "sliding_window": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.2},
    "opt": SMALL | {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 128, "init_std": 0.2},
    "gpt_neox": SHAPE,
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterable[None]:
    with torch.no_grad():
        yield


def by_place(texts: Iterable[Generation]) -> dict[tuple[str, int], Generation]:
    return {(one.id, one.draw): one for one in texts}


def test_no_row_depends_on_batch_order_or_what_was_written_before(model: PreTrainedModel, tokenizer: Any) -> None:
    rows, limits = random_rows(tokenizer, 500, draws=2), Limits(24)
    expected = by_place(engine_of(model, tokenizer, rows=64).write(rows, limits))
    assert len(expected) == 1000
    assert len({one.token_ids for one in expected.values()}) > 900
    assert {one.finish for one in expected.values()} == {"stop", "length"}
    shuffled = random.Random(0).sample(rows, len(rows))
    for batch, part in ((200, shuffled), (7, shuffled[:100]), (1, shuffled[:20])):
        found = by_place(engine_of(model, tokenizer, rows=batch).write(part, limits))
        assert len(found) == len(part)
        assert [place for place, one in found.items() if one != expected[place]] == []


def test_close_calls_are_decided_by_the_row_alone(model: PreTrainedModel, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that, logits that move by more than they do turn some of them."""
    rows, limits = random_rows(tokenizer, 64), Limits(24)
    expected = by_place(engine_of(model, tokenizer, rows=1).write(rows, limits))

    def wrong_rows() -> int:
        engine = engine_of(model, tokenizer, rows=64)
        assert engine.way == "own_mask"
        read = engine._reader.read
        noise = torch.Generator().manual_seed(0)

        def disturbed(*given: Any, **options: Any) -> torch.Tensor:
            logits = read(*given, **options)
            together = len(logits) > 1
            return logits + together * CLOSE / 2.5 * (2 * torch.rand(logits.shape, generator=noise) - 1)

        monkeypatch.setattr(engine._reader, "read", disturbed)
        return sum(one != expected[one.id, one.draw] for one in engine.write(rows, limits))

    assert wrong_rows() == 0
    monkeypatch.setattr("harness.generation.samplers.rounding.CLOSE", 0.0)
    monkeypatch.setattr("tests.generation.test_engine.CLOSE", 0.05)
    assert wrong_rows() > 0


CUTS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.3},
    {"top_k": 5},
    {"top_p": 0.8},
    {"min_p": 0.1},
    {"typical_p": 0.7},
    {"top_h": 0.6},
    {"top_n_sigma": 1.0},
    {"epsilon_cutoff": 0.02},
    {"eta_cutoff": 0.1},
    {"p_less": "plain"},
    {"p_less": "norm"},
    {"xtc_probability": 1.0, "xtc_threshold": 0.05},
    {"mirostat_tau": 2.0},
    {"adaptive_target": 0.3, "min_p": 0.1},
    {"top_k": 12, "top_p": 0.8, "min_p": 0.1, "typical_p": 0.9},
    {"smoothing_factor": 0.3, "temperature": 1.0, "dynatemp_range": 0.5, "top_p": 0.9},
]


class Alone:
    """Says of a row what it was told."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits, self.device, self.looks = logits, logits.device, 0
        self.model = torch.nn.Linear(1, 1)
        self.model.dtype = torch.float32  # type: ignore[assignment]

    def alone(self, history: list[int], prompt_tokens: int) -> torch.Tensor:
        self.looks += 1
        return self.logits[history[0] :][:1]


def at_the_bar(sampling: SamplingConfig, rows: list[RowState]) -> torch.Tensor:
    """Logits that rounding changes the choice of, where it may: found by halving the way between two that choose otherwise."""
    generator = torch.Generator().manual_seed(0)
    ends = [2 * torch.randn(len(rows), 24, generator=generator) for _ in range(2)]
    choice = Choice(Alone(ends[0]), sampling, None, [])  # type: ignore[arg-type]
    choice.is_exact = False

    def chosen(logits: torch.Tensor) -> torch.Tensor:
        return torch.tensor(choice.tokens(logits, [RowState(row.key, list(row.history), 1) for row in rows]))

    first = chosen(ends[0])
    for _ in range(20):
        middle = (ends[0] + ends[1]) / 2
        same = (chosen(middle) == first)[:, None]
        ends = [middle.where(same, ends[0]), ends[1].where(same, middle)]
    return ends[0]


@pytest.mark.parametrize("parameters", CUTS, ids=str)
def test_rounding_at_a_bar_is_decided_by_the_row_alone(parameters: dict[str, Any]) -> None:
    """Without that, a token that is kept in one batch and removed in another can win by far."""
    sampling = SamplingConfig(**parameters)

    def states() -> list[RowState]:
        return [RowState(key=index, history=[index], prompt_tokens=1) for index in range(300)]

    logits = at_the_bar(sampling, states())
    generator = torch.Generator().manual_seed(1)
    moved = [logits + 1e-5 * (2 * torch.rand(logits.shape, generator=generator) - 1) for _ in range(3)]
    found: dict[bool, list[list[int]]] = {}
    memories = []
    for exact in (True, False):
        found[exact] = []
        for given in moved:
            choice = Choice(Alone(logits), sampling, None, [])  # type: ignore[arg-type]
            choice.is_exact = exact
            rows = states()
            found[exact].append(choice.tokens(given, rows))
            memories.append([row.memory for row in rows])
    assert [ids for ids in found[True] if ids != found[True][0]] == []
    assert any(ids != found[False][0] for ids in found[False]), "there is something to decide"
    for one, other in zip(memories[0], memories[1], strict=True):
        assert other == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize("parameters", CUTS, ids=str)
def test_few_choices_need_a_second_look_and_those_without_are_of_exact_bars(parameters: dict[str, Any]) -> None:
    logits = 2 * torch.randn(1000, 200, generator=torch.Generator().manual_seed(2))
    reader = Alone(logits)
    found = []
    for exact in (True, False):
        choice = Choice(reader, SamplingConfig(**parameters), None, [])  # type: ignore[arg-type]
        choice.is_exact = exact
        found.append(choice.tokens(logits, [RowState(key=index, history=[index], prompt_tokens=1) for index in range(1000)]))
    assert found[0] == found[1]
    # A bar has 0 to 5 of 1000 that are this close; of several, each moves those behind it as well.
    assert reader.looks <= 5 * len(parameters)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_texts_are_those_of_generate(tokenizer: Any, family: str) -> None:
    model = random_model(tokenizer, family, **FAMILIES[family])
    rows = random_rows(tokenizer, 6)
    engine = engine_of(model, tokenizer, rows=4, name="greedy", temperature=0)
    assert engine.way == {"mamba": "uncached", "mistral": "batches", "gemma2": "batches"}.get(family, "own_mask")
    alone = engine_of(model, tokenizer, rows=1, name="greedy", temperature=0)
    for one in [*engine.write(rows, Limits(10)), *alone.write(rows[:2], Limits(10))]:
        prompt = next(row.prompt for row in rows if row.prompt.id == one.id)
        ids = torch.tensor([prompt.token_ids])
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, use_cache=True, pad_token_id=0)
        assert list(one.token_ids) == whole[0, ids.shape[1] :].tolist(), family


def test_the_model_is_left_as_it_was(model: PreTrainedModel, tokenizer: Any) -> None:
    list(engine_of(model, tokenizer).write(random_rows(tokenizer, 3), Limits(4)))
    assert model.config.use_cache is False
    assert model.config._attn_implementation == "sdpa"


class LooksAtPadding(torch.nn.Module):
    """Around a model: adds to all logits what depends on the first token of the row, padding or not."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model.forward

    def __call__(self, **given: Any) -> Any:
        found = self.inner(**given)
        mask = given["attention_mask"]
        if mask is not None:
            found.logits = found.logits + (~mask.bool()).sum(dim=-1).view(-1, 1, 1) * torch.linspace(0, 1, found.logits.shape[-1])
        return found


def test_a_model_that_sees_padding_writes_one_row_at_a_time_or_not_at_all(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(tokenizer)
    rows, limits = random_rows(tokenizer, 4), Limits(8)
    expected = by_place(engine_of(model, tokenizer).write(rows, limits))
    signature = type(model).forward
    leaking = LooksAtPadding(model)
    monkeypatch.setattr(type(model), "__call__", lambda self, **given: leaking(**given))
    assert signature is type(model).forward
    assert engine_of(model, tokenizer).way == "alone"
    with pytest.raises(InputError, match=r"\(llama\) writes otherwise in a batch than alone: it sees the padding.*--batch-size 1"):
        list(engine_of(model, tokenizer).write(rows, limits))
    assert by_place(engine_of(model, tokenizer, rows=1).write(rows, limits)) == expected
    assert by_place(engine_of(model, tokenizer, tokens=1).write(rows, limits)) == expected


def test_a_text_ends_where_the_context_does(model: PreTrainedModel, tokenizer: Any) -> None:
    (row,) = random_rows(tokenizer, 1)
    long = Prompt("long", "", tuple((row.prompt.token_ids * 128)[:120]))
    engine = engine_of(model, tokenizer)
    assert engine.longest_prompt == 127
    texts = [one for draw in range(8) for one in engine.write([Draw(long, draw)], Limits(1000))]
    assert {(one.tokens, one.finish) for one in texts if one.finish == "length"} == {(8, "length")}
    with pytest.raises(InputError, match=r"the prompt whole: 128 tokens, which leave no room in the model.s context of 128"):
        list(engine.write([Draw(Prompt("whole", "", (5,) * 128), 0)], Limits(1)))
    with pytest.raises(InputError, match="the prompt none: it has no tokens"):
        list(engine.write([Draw(Prompt("none", "", ()), 0)], Limits(1)))


def test_every_end_token_ends_a_text_and_is_not_in_it(tokenizer: Any) -> None:
    model = random_model(tokenizer)
    rows, limits = random_rows(tokenizer, 100), Limits(16)
    before = by_place(engine_of(model, tokenizer).write(rows, limits))
    often = max(range(20, len(tokenizer)), key=lambda token: sum(token in one.token_ids for one in before.values()))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, often]
    after = by_place(engine_of(model, tokenizer).write(rows, limits))
    changed = [place for place in before if often in before[place].token_ids]
    assert len(changed) > 3
    for place, one in before.items():
        cut = one.token_ids[: one.token_ids.index(often) + 1] if place in changed else one.token_ids
        assert after[place].token_ids == cut
        assert after[place].finish == ("stop" if place in changed else one.finish)
        assert after[place].text == tokenizer.decode([token for token in cut if token not in (tokenizer.eos_token_id, often)])


def test_a_stop_string_ends_a_text_before_it(model: PreTrainedModel, tokenizer: Any) -> None:
    rows = random_rows(tokenizer, 80)
    whole = by_place(engine_of(model, tokenizer).write(rows, Limits(16)))
    stops = ("e", "ow")
    cut = by_place(engine_of(model, tokenizer, rows=16).write(rows, Limits(16, stops)))
    assert sum(one.finish == "stop" for one in cut.values()) > sum(one.finish == "stop" for one in whole.values())
    for place, one in whole.items():
        first = min((at for stop in stops if (at := one.text.find(stop)) >= 0), default=None)
        assert cut[place].text == one.text[:first]
        assert cut[place].token_ids == one.token_ids[: cut[place].tokens]
        assert cut[place].finish == ("stop" if first is not None else one.finish)


@pytest.mark.parametrize(("stop", "problem"), [("", "an empty string is in every text"), ("\ud800", "the tokenizer cannot write it")])
def test_a_stop_string_that_nothing_can_hold_is_refused(model: PreTrainedModel, tokenizer: Any, stop: str, problem: str) -> None:
    with pytest.raises(InputError, match=rf"stop=.*{problem}"):
        list(engine_of(model, tokenizer).write(random_rows(tokenizer, 1), Limits(4, (stop,))))


def test_a_stop_string_of_letters_that_the_tokenizer_lacks_is_refused() -> None:
    words = Tokenizer(WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    known = PreTrainedTokenizerFast(tokenizer_object=words)
    assert with_stop_tokens(known, Limits(1, ("a",))) == (Limits(1, ("a",)), frozenset())
    with pytest.raises(InputError, match="stop='END': the tokenizer cannot write it"):
        with_stop_tokens(known, Limits(1, ("a", "END")))


def test_texts_that_nothing_would_end_are_refused_by_who_asks(tokenizer: Any) -> None:
    model, endless = random_model(tokenizer), copy.deepcopy(tokenizer)
    model.generation_config.eos_token_id = endless.eos_token = None
    engine, rows = engine_of(model, endless), random_rows(tokenizer, 3)
    with pytest.raises(InputError, match="has an end token, so that no text would end by itself; valid: a stop string"):
        engine.refuse_endless(Limits(4), "--stop")
    engine.refuse_endless(Limits(4, ("e",)), "--stop")
    assert [one.finish for one in engine.write(rows, Limits(4))] == ["length"] * 3


def test_a_control_token_is_a_stop_string_too(model: PreTrainedModel, tokenizer: Any) -> None:
    engine = engine_of(model, tokenizer)
    limits = Limits(8, (tokenizer.eos_token,))
    assert by_place(engine.write(random_rows(tokenizer, 9), limits)) == by_place(engine.write(random_rows(tokenizer, 9), Limits(8)))


def test_tokens_that_are_no_text_are_never_written(tokenizer: Any) -> None:
    model = random_model(tokenizer, **SHAPE | {"vocab_size": len(tokenizer) + 40})
    texts = list(engine_of(model, tokenizer, temperature=5.0).write(random_rows(tokenizer, 100), Limits(16)))
    assert max(max(one.token_ids) for one in texts) < len(tokenizer)


def test_a_model_whose_logits_are_nan_is_no_text(tokenizer: Any) -> None:
    model = random_model(tokenizer)
    engine = engine_of(model, tokenizer)
    assert engine.way == "own_mask"
    model.get_input_embeddings().weight.fill_(torch.nan)  # type: ignore[no-untyped-call]
    with pytest.raises(NonFiniteLogitsError):
        list(engine.write(random_rows(tokenizer, 1), Limits(4)))


def test_a_prompt_with_a_token_that_the_model_lacks_is_refused(tokenizer: Any) -> None:
    model = random_model(tokenizer, **SHAPE | {"vocab_size": len(tokenizer) - 2})
    last = len(tokenizer) - 1
    with pytest.raises(InputError, match=rf"it has rows for .* and the text has the token .*id {last}.*valid: the model's own tokenizer"):
        list(engine_of(model, tokenizer).write([Draw(Prompt("p", "", (5, last)), 0)], Limits(1)))


def test_in_half_precision_shards_are_what_is_written_together(tokenizer: Any) -> None:
    model = random_model(tokenizer).to(torch.bfloat16)
    engine = engine_of(model, tokenizer, rows=16)
    rows, limits = random_rows(tokenizer, SHARD_ROWS + 40), Limits(8)
    assert not engine.is_exact
    first, second = engine.shards(rows, parts=7)
    assert (len(first), len(second)) == (SHARD_ROWS, 40)
    assert engine.shards(rows, parts=1) == [first, second]
    assert by_place(engine.write(second, limits)) == by_place(engine.write(second, limits))
    exact = engine_of(random_model(tokenizer), tokenizer).shards(rows, parts=3)
    assert [len(shard) for shard in exact] == [99, 99, 98]
