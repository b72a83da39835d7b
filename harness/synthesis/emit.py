"""Rows of a data set, in formats that data.sources.<name>.path reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from harness.config.synth_schema import SynthConfig
from harness.synthesis.filters import text_of
from harness.synthesis.row import Row
from harness.synthesis.select import RowPair


def emit(selected: Sequence[Row] | Sequence[RowPair], config: SynthConfig) -> list[dict[str, Any]]:
    """A row of the data set for each. What is known of how it was made is in `metadata`.

    messages    {messages: [system, user, assistant]}
    preference  {prompt, chosen, rejected, score_chosen, score_rejected}: higher scores are better, so those of select.lowest change sign
    unpaired    {prompt, completion, label}
    text        {text}: of emit.continues the prompt and what follows it
    """
    return [_of_pair(one, config) if isinstance(one, RowPair) else _of_row(one, config) for one in selected]


def _of_row(row: Row, config: SynthConfig) -> dict[str, Any]:
    prompt, answer, emit = prompt_of(row, config), answer_of(row, config), config.emit
    found: dict[str, Any] = {"id": row.id}
    match emit.format:
        case "messages":
            system = [{"role": "system", "content": text_of(row, emit.system)}] if emit.system else []
            found["messages"] = [*system, {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        case "unpaired":
            found |= _with_system({"prompt": prompt, "completion": answer}, row, config)
            found["label"] = row.scores[str(emit.label)] > emit.label_above
        case "text":
            found["text"] = shown_text(row, config)
        case "preference":
            raise AssertionError("a recipe whose rows are pairs was checked")
        case _:
            assert_never(emit.format)
    return {**found, "metadata": _metadata(row)}


def _of_pair(pair: RowPair, config: SynthConfig) -> dict[str, Any]:
    chosen, rejected = pair
    by, sign = str(config.select.by), -1.0 if config.select.lowest else 1.0
    return {
        "id": f"{chosen.id}+{rejected.id}",
        **_with_system({"prompt": prompt_of(chosen, config)}, chosen, config),
        "chosen": answer_of(chosen, config),
        "rejected": answer_of(rejected, config),
        "score_chosen": sign * chosen.scores[by],
        "score_rejected": sign * rejected.scores[by],
        "metadata": {"chosen": _metadata(chosen), "rejected": _metadata(rejected)},
    }


def prompt_of(row: Row, config: SynthConfig) -> str:
    """What the user says."""
    return row.prompt if config.emit.prompt is None else text_of(row, config.emit.prompt)


def answer_of(row: Row, config: SynthConfig) -> str:
    """What the assistant says, or the text."""
    return text_of(row, config.emit.answer)


def shown_text(row: Row, config: SynthConfig) -> str:
    """What is read of a row: the answer; of emit.continues the prompt before it, too."""
    answer = answer_of(row, config)
    return prompt_of(row, config) + answer if config.emit.continues else answer


def _with_system(found: dict[str, Any], row: Row, config: SynthConfig) -> dict[str, Any]:
    return found if config.emit.system is None else {"system": text_of(row, config.emit.system), **found}


def _metadata(row: Row) -> dict[str, Any]:
    tokens = {"prompt": row.tokens.prompt, "generated": row.tokens.generated}
    seed = {"id": row.seed_row.id, "content": row.seed_row.content}
    return {"seed": seed, "draw": row.draw, "scores": row.scores, "finish": row.finish, "tokens": tokens, "provenance": row.provenance}
