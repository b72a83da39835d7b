"""Rows of synthetic data, as steps make them."""

from __future__ import annotations

from typing import Any

from harness.synthesis.row import Finish, Row, SeedRow, Tokens


def made_row(
    answer: str,
    *,
    name: str = "",
    group: str = "g",
    draw: int = 0,
    prompt: str = "Say it.",
    finish: Finish = "stop",
    tokens: int = 5,
    **scores: float,
) -> Row:
    """A row that answers a prompt by a step `answer`. name: its id; else group and draw."""
    fields: dict[str, Any] = {"questions": {"question": prompt, "gold": ["one", "two"]}, "answer": answer}
    return Row(
        id=name or f"{group}{draw}",
        group=group,
        draw=draw,
        seed_row=SeedRow("q1", "0123456789abcdef"),
        prompt=prompt,
        answer="answer",
        fields=fields,
        scores=scores,
        finish=finish,
        tokens=Tokens(7, tokens),
        written={"answer": tokens},
        provenance={"answer": {"teacher": "local"}},
    )
