"""What models wrote for their evaluation sets: a few prompts, with the texts of the runs side by side, or of one run before and after."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from html import escape
from itertools import groupby, islice

from harness.config.documents import DamagedError
from harness.config.steering_controls import control_of
from harness.report.comparison import Comparison
from harness.report.text import ABSENT, short_names
from harness.runs.generations import WrittenText
from harness.runs.record import RunRecord

log = logging.getLogger("harness")

RUNS = 8
"""The best of them that wrote anything; before them, in a steering study, doing nothing and the prompt."""
FIRST = ("nothing", "prompt")
PROMPTS = 4
"""Of each set."""
SHOWN_CHARACTERS = 1_200
"""Of a text, and of a prompt, whose end is what the text goes on from."""
Texts = dict[tuple[str, str, int], WrittenText]


def samples_section(comparison: Comparison) -> str:
    """A row for each of a few prompts, a column for each run, or for the first and the last step of a single one; "" where nothing was
    written."""
    columns = list(islice(_columns(_controls_first(comparison.runs), is_single=len(comparison.runs) == 1), RUNS))
    if not columns:
        return ""
    prompts = few(columns[0][2].values(), PROMPTS)
    head = "".join(f'<th scope="col" title="{escape(name)}">{escape(short)}</th>' for name, short, _ in columns)
    rows = "".join(
        f'<tr><th scope="row"><small>{escape(prompt.set)} · {escape(prompt.id)}</small>{escape(_end(prompt.prompt))}</th>'
        f"{''.join(_cell(texts.get(prompt.place)) for _, _, texts in columns)}</tr>"
        for prompt in prompts
    )
    return (
        '<section id="samples"><h2>Samples</h2><div class="card scroll"><table class="plain samples">'
        f"<thead><tr><th>after</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def few(texts: Iterable[WrittenText], prompts: int) -> list[WrittenText]:
    """The first draw after the first prompts of each set."""
    kept: list[WrittenText] = []
    for _, group in groupby((text for text in texts if text.draw == 0), lambda text: text.set):
        kept += islice(group, prompts)
    return kept


def verdict(text: WrittenText) -> str:
    """32 tokens, stop, right"""
    judged = [] if text.score is None else ["right" if text.score == 1 else "wrong"]
    return ", ".join([f"{text.tokens} token{'s'[: text.tokens != 1]}", text.finish, *judged])


def shortened(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"


def _end(prompt: str) -> str:
    return prompt if len(prompt) <= SHOWN_CHARACTERS else f"…{prompt[-SHOWN_CHARACTERS:]}"


def _controls_first(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs that wrote anything, those that a user wants to see steering beside before all others. Of a study of thousands that write
    nothing no configuration is read."""
    wrote = [run for run in runs if run.directory.generations.path.exists()]
    return sorted(wrote, key=lambda run: FIRST.index(kind) if (kind := _control(run)[0]) in FIRST else len(FIRST))


def _control(run: RunRecord) -> tuple[str, str]:
    return control_of(run.config) or ("", "")


def _columns(runs: Sequence[RunRecord], *, is_single: bool) -> Iterator[tuple[str, str, Texts]]:
    """Name, short name and texts of each column."""
    short = short_names([run.name for run in runs])
    for run in runs:
        steps = _by_step(run)
        if not steps:
            continue
        shown = list(dict.fromkeys([min(steps), max(steps)])) if is_single else [max(steps)]
        for step in shown:
            named = f"step {step}" if is_single else ", ".join(filter(None, (short[run.name], *_control(run))))
            yield f"{run.name}, step {step}", named, {text.place: text for text in steps[step]}


def _by_step(run: RunRecord) -> dict[int, list[WrittenText]]:
    try:
        return run.directory.generations.by_step()
    except (DamagedError, OSError) as error:
        _warn(f"{run.name}: its samples are not shown: {error}")
        return {}


@cache
def _warn(problem: str) -> None:
    """Once, however often a page is written."""
    log.warning("%s", problem)


def _cell(text: WrittenText | None) -> str:
    if text is None:
        return f"<td>{ABSENT}</td>"
    kind = ' class="wrong"' if text.score == 0 else ""
    return f"<td><small{kind}>{escape(verdict(text))}</small>{escape(shortened(text.text))}</td>"
