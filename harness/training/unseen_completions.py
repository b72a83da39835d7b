"""What steering is judged by is not what its direction was found from."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.schema import Config
from harness.data.preference.contrast import completions_in
from harness.evaluation.contrast_set import ContrastSet
from harness.evaluation.evaluation_set import EvaluationSet

KEY = "adapter.pairs"


def refuse_extracted_completions(config: Config, sets: Sequence[EvaluationSet]) -> None:
    """Raise InputError for a contrast set with continuations that adapter.pairs has, too: a direction that makes these very words likelier
    need not have found the trait."""
    contrasts = [part for part in sets if isinstance(part, ContrastSet)]
    if config.adapter.pairs is None or not contrasts:
        return
    extracted = completions_in([in_home(config.adapter.pairs)], key=KEY)
    for part in contrasts:
        seen = [place for both, place in zip(part.completions, part.places, strict=True) if extracted & {text.strip() for text in both}]
        if seen:
            first = seen[0].removeprefix(f"{part.key}: ")
            raise InputError(
                f"{part.key}: {len(seen)} of its {part.documents} pairs have a continuation that {KEY}={config.adapter.pairs} has as well, "
                f"the first in {first}; valid: other continuations than those that the direction is found from"
            )
