"""What steering is judged by is not what its direction was found from."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.schema import Config
from harness.data.preference.contrast import completions_in
from harness.evaluation.contrast_set import ContrastSet
from harness.evaluation.evaluation_set import EvaluationSet
from harness.runs.report_split import REPORT

KEY = "adapter.pairs"


def refuse_extracted_completions(config: Config, sets: Sequence[EvaluationSet]) -> None:
    """Raise InputError for a contrast set with continuations that adapter.pairs has, too: a direction that makes these very words likelier
    need not have found the trait."""
    contrasts = [part for part in sets if isinstance(part, ContrastSet)]
    if config.adapter.pairs is None or not contrasts:
        return
    extracted = completions_in([in_home(config.adapter.pairs)], key=KEY)
    # Both parts of a set, where some is kept for the report.
    sets_by_key: dict[str, list[ContrastSet]] = {}
    for part in contrasts:
        sets_by_key.setdefault(part.key.removesuffix(f"/{REPORT}"), []).append(part)
    for key, parts in sets_by_key.items():
        rows = [row for part in parts for row in zip(part.completions, part.places, strict=True)]
        seen = [place.removeprefix(f"{key}: ") for both, place in rows if extracted & {text.strip() for text in both}]
        if seen:
            raise InputError(
                f"{key}: {len(seen)} of its {len(rows)} pairs have a continuation that {KEY}={config.adapter.pairs} has as well, such as "
                f"{seen[0]}; valid: other continuations than those that the direction is found from"
            )
