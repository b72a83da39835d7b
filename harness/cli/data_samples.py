"""Samples of the training data: trained tokens in colour, or between ▸ and ◂ without colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from harness.data.preview import Piece, Sample

TRAINED, TRAINED_CONTROL, CONTROL, OTHER = "green", "bold green", "bold magenta", "dim"


def show_samples(samples: list[Sample], context_length: int, console: Console) -> None:
    """Print the samples. Control tokens are bold; in a packed row, a line above each document names it."""
    from rich.rule import Rule

    coloured = console.color_system is not None and not console.no_color
    masked = any(not part.trained for sample in samples for piece in sample.pieces for part in piece.parts)
    if masked:
        console.print("Trained tokens are green, control tokens bold." if coloured else "Trained tokens stand between ▸ and ◂.")
    for sample in samples:
        rows = sample.name.startswith("row")
        counts = f"{sample.tokens:,} tokens, {sample.trained_tokens:,} trained"
        if rows:
            counts += f", {len(sample.pieces)} document{'s'[: len(sample.pieces) - 1]}, {context_length - sample.tokens} padding"
        console.print(Rule(f"{sample.name}: {counts}", align="left", style="cyan", characters="─"))
        for piece in sample.pieces:
            end = piece.first_token + piece.tokens
            where = f", tokens {piece.first_token:,} to {end:,}" if rows else ""
            kind = {None: "document", "chosen": "pair", "rejected": "pair"}.get(piece.answer, "answer")
            what = f"{kind} {piece.document:,}" + ("" if piece.answer is None else f", {piece.answer}")
            console.print(f"┌ {piece.source}, {what}{where}", style="cyan", highlight=False, soft_wrap=True)
            console.print(_text(piece, coloured, masked), soft_wrap=True)


def _text(piece: Piece, coloured: bool, masked: bool) -> Text:
    from rich.text import Text

    text = Text()
    for index, part in enumerate(piece.parts):
        if coloured:
            style = (TRAINED_CONTROL if part.trained else CONTROL) if part.control else TRAINED if part.trained or not masked else OTHER
            text.append(part.text, style=style if masked or part.control else None)
            continue
        before = piece.parts[index - 1].trained if index else False
        after = piece.parts[index + 1].trained if index + 1 < len(piece.parts) else False
        text.append("▸" * (masked and part.trained and not before) + part.text + "◂" * (masked and part.trained and not after))
    return text
