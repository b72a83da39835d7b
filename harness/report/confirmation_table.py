"""A confirmation as text, as a table in the terminal, and as a section of the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from rich.table import Table
from rich.text import Text

from harness.config.literal_console import LiteralConsole
from harness.config.steering_controls import has_noise, redraws_pairs
from harness.config.terminal import say
from harness.report.text import ABSENT, bound_text, metric_text
from harness.runs.chances import Chance
from harness.runs.confirmation import Candidate, Confirmation, is_within_noise
from harness.runs.constraints import limits_of
from harness.runs.fresh_seeds import shifts
from harness.runs.paired import CONFIDENCE, Interval
from harness.runs.record import StudyRecord

METHOD = (
    f"Intervals: {CONFIDENCE:.0%}, Student t over seeds; differences are paired by seed. P(best): posterior of the additive model "
    "candidate + seed + noise. A candidate counts when it is complete with every seed and its means meet the constraints, with the chance "
    "that is asked for. %: the chance that a run with a fresh seed meets the bound, from the means and the scatter of all candidates."
)


DRAWS = (
    "Seeds are bootstrap draws of the same pairs: their sd is the standard error of what was found from these pairs, so that more pairs "
    "narrow an interval, and more draws hardly do. There is no P(best)."
)


def seeds_text(candidate: Candidate) -> str:
    """2.3456 ± 0.0123 (mean and 95% interval over 3 seeds)"""
    return f"{mean_text(candidate.interval)} (mean and {CONFIDENCE:.0%} interval over {candidate.behind_the_mean})"


def mean_text(interval: Interval | None) -> str:
    return ABSENT if interval is None else f"{metric_text(interval.mean)} ± {interval.half_width:.2g}"


def how_to_confirm(study: StudyRecord) -> str:
    """What another seed of its best would tell, and the command for it."""
    config: dict[str, Any] = study.sweep.get("config", {})
    if not has_noise(config):
        return "nothing to confirm: the direction of adapter.vector is the same with every seed"
    over = "other draws of the pairs" if redraws_pairs(config) else "seeds"
    return f"`harness confirm {study.name}` runs the best over {over}"


def verdict(study: StudyRecord) -> list[str]:
    """The confidence in the winner, or why there is none: a sentence a line."""
    found = study.confirmation
    assert found is not None, "there is one"
    lines = list(_verdict(study, found))
    noise = found.noise
    if noise:
        lines.append(
            f"{_noise(found)}: sd {metric_text(noise.sd)}; two single runs with the same seed that differ by less than "
            f"{metric_text(noise.least_difference)} cannot be told apart"
        )
    return lines


def _verdict(study: StudyRecord, found: Confirmation) -> Iterator[str]:
    if not found.is_complete:
        # What a study runs by itself, its budget pays for.
        is_its_own = any(found.plan.runs[place] in found.to_go for place in found.plan.charged)
        goes_on = "resume" if is_its_own else "confirm"
        yield f"confirmation: {found.ended} of {len(found.plan.runs)} runs have ended; `harness {goes_on} {study.name}` goes on"
        return
    if found.winner is None and found.ranked:
        first, least = found.ranked[0], found.seeds_for_a_winner
        more = f"`harness confirm {study.name} --trial {first.number} --seeds {least}` runs it over what is lacking"
        yield f"not confirmed: trial {first.number} comes through its {len(first.values)} seeds, and a winner has {least}; {more}"
        return
    if found.winner is None:
        tried = len(found.candidates)
        which = "its one candidate does not come" if tried == 1 else f"none of its {tried} candidates comes"
        meets = f" and meet{'' if tried == 1 else 's'} the constraints {_how_surely(study)}" if study.constraints else ""
        yield f"not confirmed: {which} through every seed{meets}"
        reasons = [str(reason) for candidate in found.candidates for reason in candidate.failed.values()]
        if reasons:
            yield f"{len(reasons)} of {len(found.plan.runs)} runs failed: {'; '.join(dict.fromkeys(reasons))}"
        # The best of one seed lie at the edge of a constraint; other seeds push them over it.
        yield from (
            f"{metric} is {abs(shift):.4g} {'more' if shift > 0 else 'less'} over these seeds than with the search's, in their mean"
            for metric, shift in shifts(study).items()
        )
        numbers = {candidate.number for candidate in found.candidates}
        if all(run.number in numbers for run in study.ranked if study.has_full_length(run)):
            yield "no other trial of full length is complete" + (" and within the constraints" if study.constraints else "")
            return
        if study.constraints:
            # confirm takes three candidates a round by default: one or two rounds more than there have been.
            rounds = f"--rounds {tried // 3 + 2}"
            yield f"`harness confirm {study.name} {rounds}` goes on with trials that are expected to meet the constraints then, if any is"
        yield f"`harness confirm {study.name}` with a --top of more than {tried} goes on with the next best of the search"
        return
    if found.winner.chances:
        yield chance_text(found.winner)
    if len(found.ranked) == 1:
        within = " within the constraints" if study.constraints else ""
        alone = len(found.candidates) == 1
        who = "no other trial ran over fresh seeds" if alone else f"no other candidate came through two seeds or more{within}"
        yield f"{who}: there was nothing to compare it with"
        return
    runner_up = found.ranked[1]
    difference = found.difference(runner_up, found.winner)
    assert difference is not None, "both are complete with every seed"
    seeds = len(found.winner.values.keys() & runner_up.values.keys())
    # One that has fewer seeds may be ahead over these.
    word, sign = ("better", study.objective.sign) if study.objective.sign * difference.mean >= 0 else ("worse", -study.objective.sign)
    low, high = sorted((sign * difference.low, sign * difference.high))
    over, more = ("draws of the pairs", "more pairs") if found.of_draws else ("seeds", "more seeds")
    within = f"within {_noise(found)}, {more} may turn it" if is_within_noise(difference) else f"beyond {_noise(found)}"
    probability = found.probabilities.get(found.winner.number)
    of_these = (
        ""
        if probability is None
        else f", the best of these {len(found.ranked)} with probability {probability:.2f} (of other trials that says nothing)"
    )
    yield (
        f"{within}: {word} than trial {runner_up.number} by {metric_text(sign * difference.mean)} (from "
        f"{metric_text(low)} to {metric_text(high)}, paired over {seeds} {over}){of_these}"
    )
    by_prompt = found.difference_over_prompts(found.winner, runner_up)
    if by_prompt:
        interval = by_prompt.interval
        yield (
            f"of {by_prompt.prompts} prompts, {metric_text(interval.mean)} more are right than after trial "
            f"{runner_up.number}'s (from {metric_text(interval.low)} to {metric_text(interval.high)}, bootstrap over prompts)"
        )


def _noise(found: Confirmation) -> str:
    return "the noise of the pairs" if found.of_draws else "seed noise"


def _how_surely(study: StudyRecord) -> str:
    return "with the chance that is asked for" if any("chance" in bound for bound in study.constraints.values()) else "on average"


@dataclass(frozen=True)
class _Row:
    cells: list[str]
    is_winner: bool


def _headings(study: StudyRecord) -> list[str]:
    bounds = [f"{metric} {bound_text(bound)}" for metric, bound in study.constraints.items()]
    return ["trial", f"{study.objective.metric} over seeds", "sd", *bounds, "P(best)", "behind the best", "seeds", "in the search"]


def _rows(study: StudyRecord, found: Confirmation) -> Iterator[_Row]:
    searched = {run.number: run.result.objective for run in study.runs}
    first = found.ranked[0] if found.ranked else None
    for candidate in found.in_order:
        behind = found.difference(candidate, first) if first and candidate is not first else None
        chance = found.probabilities.get(candidate.number)
        means = [_constrained(candidate, metric) for metric in study.constraints]
        cells = [
            str(candidate.number),
            mean_text(candidate.interval),
            ABSENT if candidate.interval is None else metric_text(candidate.interval.sd),
            *means,
            ABSENT if chance is None else f"{chance:.2f}",
            _behind(study, behind),
            _seeds(candidate),
            metric_text(searched.get(candidate.number)),
        ]
        yield _Row(cells, candidate is found.winner)


def _constrained(candidate: Candidate, metric: str) -> str:
    """0.2471 (93%), and a ! where that is not enough"""
    mark = " !" if candidate.complete and not candidate.meets(metric) else ""
    return f"{metric_text(candidate.metrics.get(metric))}{_percent(candidate.chances.get(metric))}{mark}"


def _percent(chance: Chance | None) -> str:
    return "" if chance is None else f" ({chance.mean:.0%})"


def chance_text(candidate: Candidate) -> str:
    """val/general/forgetting ≤ 0.25 holds with a fresh seed with chance 0.93 (from 0.71 to 0.99); "" where nothing is constrained."""
    return "; ".join(
        f"{metric} {bound_text(limits_of(candidate.constraints[metric]))} holds with a fresh seed with chance {chance.mean:.2f} "
        f"(from {chance.low:.2f} to {chance.high:.2f})"
        for metric, chance in candidate.chances.items()
    )


def _behind(study: StudyRecord, difference: Interval | None) -> str:
    if difference is None:
        return ""
    text = f"{metric_text(study.objective.sign * difference.mean)} ± {metric_text(difference.half_width)}"
    return f"{text} ~" if is_within_noise(difference) else text


def _seeds(candidate: Candidate) -> str:
    failed = f", {len(candidate.failed)} failed" if candidate.failed else ""
    return f"{len(candidate.values)} of {len(candidate.results)}{failed}"


def confirmation_table(study: StudyRecord) -> Table:
    """A candidate a row, the best first; ~: within seed noise; !: it does not meet a constraint; %: the chance that a fresh seed does."""
    found = study.confirmation
    assert found is not None, "there is one"
    table = Table(box=None, pad_edge=False)
    for heading in _headings(study):
        table.add_column(heading, justify="right", header_style="bold")
    for row in _rows(study, found):
        table.add_row(*(Text(cell) for cell in row.cells), style="bold green" if row.is_winner else "")
    return table


def print_confirmation(study: StudyRecord) -> None:
    """Table and verdict on stdout."""
    from harness.report.fitted_table import show

    console = LiteralConsole()
    show(confirmation_table(study), console)
    for line in answer(study):
        say(line)


def answer(study: StudyRecord) -> Iterator[str]:
    """Who is the winner, or why nobody is; the study's name leads."""
    if study.confirmed:
        yield f"{study.name}: trial {study.confirmed.number} is the winner: {study.objective.metric} {seeds_text(study.confirmed)}"
    yield from (f"  {line}" if study.confirmed else f"{study.name}: {line}" for line in verdict(study))


def confirmation_section(study: StudyRecord) -> str:
    """The section of a page."""
    found = study.confirmation
    assert found is not None, "there is one"
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in _headings(study))
    rows = "".join(_html_row(row) for row in _rows(study, found))
    over = f"{len(found.seeds)} {'draws of the pairs' if found.of_draws else 'seeds'}"
    words = "".join(f"<p>{escape(line)}</p>" for line in (*verdict(study), METHOD, *([DRAWS] if found.of_draws else [])))
    return (
        f'<section id="confirmation"><h2>Confirmation over {over}</h2><div class="card scroll">'
        f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div><div class="words">{words}</div></section>'
    )


def _html_row(row: _Row) -> str:
    cells = "".join(f'<td class="number">{escape(cell)}</td>' for cell in row.cells)
    return f'<tr class="best">{cells}</tr>' if row.is_winner else f"<tr>{cells}</tr>"
