"""A data set that was made, as one self-contained HTML file: how many rows each stage left, figures, and rows to read, dropped ones too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from harness.config.synth_schema import SynthConfig
from harness.synthesis.card_figures import evenly
from harness.synthesis.emit import answer_of, prompt_of
from harness.synthesis.row import Row
from harness.synthesis.select import RowPair
from harness.synthesis.stages import Made

ROWS, ROWS_OF_A_RULE = 200, 40
"""That are shown: of those that were kept, and of those that went by one rule."""
SHOWN_CHARACTERS = 2_000
KEPT = "kept"


def data_page(manifest: Mapping[str, Any], made: Made, config: SynthConfig) -> str:
    """The page. All texts in it are of a model or a stranger, and stay text. manifest: what manifest.json holds."""
    by_rule: dict[str, list[Any]] = {KEPT: list(made.selected)}
    for one in made.rejected:
        by_rule.setdefault(one.rule, []).append(one)
    chips = "".join(
        f'<button type="button" class="chip" aria-pressed="false" data-rule="{escape(rule)}">{escape(rule)} <b>{len(found):,}</b></button>'
        for rule, found in by_rule.items()
    )
    shown = {rule: evenly(found, ROWS if rule == KEPT else ROWS_OF_A_RULE) for rule, found in by_rule.items()}
    return Template(_asset("data_page.html")).substitute(
        title=escape(str(manifest["recipe"])),
        style=_asset("page.css"),
        question=escape("; ".join(f"{name} by {step['teacher']}" for name, step in manifest["steps"].items())),
        tiles="".join(_tiles(manifest)),
        funnel="".join(_funnel(manifest["funnel"])),
        tables="".join(_tables(manifest["figures"])),
        shown=escape(
            f"{sum(map(len, shown.values())):,} of {sum(map(len, by_rule.values())):,}, evenly chosen: kept, or by what they went"
        ),
        chips=chips,
        rows="\n".join(_rows(shown, config)),
        version=escape(str(manifest["version"])),
    )


def _asset(name: str) -> str:
    return files("harness.report").joinpath("browser", name).read_text(encoding="utf-8")


def _tiles(manifest: Mapping[str, Any]) -> Iterator[str]:
    tokens, rows = manifest["tokens"], manifest["rows"]
    spent = sum(tokens.values())
    lost = f" · {tokens['lost']:,} lost" if tokens["lost"] else ""
    yield _tile("Rows", f"{rows:,}", f"of {manifest['funnel']['draws']:,} draws")
    yield _tile("Teachers' tokens", f"{spent:,}", f"{tokens['prompt']:,} read · {tokens['generated']:,} written{lost}")
    if rows:
        yield _tile("Tokens a row", f"{spent / rows:,.0f}", "that was kept")


def _tile(name: str, value: str, more: str) -> str:
    return f'<div class="tile"><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>'


def _funnel(stages: Mapping[str, int]) -> Iterator[str]:
    most = max(stages.values(), default=0) or 1
    for name, count in stages.items():
        yield f'<div>{escape(name)}</div><span style="width: {100 * count / most:.2f}%"></span><b>{count:,}</b>'


def _tables(figures: Mapping[str, Any]) -> Iterator[str]:
    if not figures:
        return
    yield _table("Words of a text", list(figures["words"]), [list(figures["words"].values())])
    yield _table("Diversity", list(figures["diversity"]), [list(figures["diversity"].values())])
    if figures["overlap"]:
        names = list(next(iter(figures["overlap"].values())))
        yield _table("Evaluation sets", ["set", *names], [[path, *one.values()] for path, one in figures["overlap"].items()])


def _table(title: str, names: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    table = f'<table class="plain"><thead><tr>{head}</tr></thead>{body}</table>'
    return f'<section><h2>{escape(title)}</h2><div class="card scroll">{table}</div></section>'


def _cell(value: Any) -> str:
    text = f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    return f'<td class="number">{escape(text)}</td>'


def _rows(shown: Mapping[str, Iterable[Any]], config: SynthConfig) -> Iterator[str]:
    for rule, found in shown.items():
        for one in found:
            if isinstance(one, RowPair):
                answers = {"chosen": _answer(one.chosen, config), "rejected": _answer(one.rejected, config)}
                yield _article(rule, one.chosen, None, answers, config)
            elif isinstance(one, Row):
                yield _article(rule, one, None, {"": _answer(one, config)}, config)
            else:
                yield _article(rule, one.row, one.value, {"": _answer(one.row, config)}, config)


def _answer(row: Row, config: SynthConfig) -> str:
    """Of a row that went before it was written: what was written last."""
    try:
        return answer_of(row, config)
    except KeyError:
        return row.last_text


def _article(rule: str, row: Row, value: Any, answers: Mapping[str, str], config: SynthConfig) -> str:
    why = "" if rule == KEPT else f" · <b>{escape(rule)}: {escape(_short(str(value), 300))}</b>"
    scores = "".join(f" · {escape(name)} {score:.4g}" for name, score in row.scores.items())
    about = f"{escape(row.seed_row.id)}, draw {row.draw} · {row.tokens.total:,} tokens{scores}{why}"
    try:
        prompt = prompt_of(row, config)
    except KeyError:
        prompt = row.prompt
    named = {f"<small>{escape(name)}</small>" if name else "": escape(_short(text, SHOWN_CHARACTERS)) for name, text in answers.items()}
    texts = "".join(f"<pre>{name}{text}</pre>" for name, text in named.items())
    kind = "row card" if rule == KEPT else "row card dropped"
    before = f'<pre class="prompt">{escape(_short(prompt, SHOWN_CHARACTERS))}</pre>'
    return f'<article class="{kind}" data-rule="{escape(rule)}"><h3>{about}</h3>{before}{texts}</article>'


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"
