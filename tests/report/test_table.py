from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.report.comparison import compare
from harness.report.fitted_table import show
from harness.report.sparkline import sparkline
from harness.report.table import render, render_importances
from harness.report.text import count_text, duration_text, metric_text, short_names, value_text
from harness.runs.directory import RunDirectory
from harness.runs.record import StudyRecord, load_run, load_study
from tests.report.conftest import after_a_kill
from tests.report.synthetic_study import BATCH_TOKENS, STEPS, write_run, write_study


def printed(renderable: object, *, width: int = 200, colors: bool = False) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=colors, color_system="standard" if colors else None).print(renderable)
    return stream.getvalue()


def test_shows_every_run_and_the_bound(study: StudyRecord) -> None:
    text = printed(render(compare([study], [])))
    assert "val/english/forgetting ≤ 0.3" in text
    assert "decay_fraction" in text
    assert (text.count("complete"), text.count("infeasible")) == (11, 1), "the word of the page and of status"
    assert "The first" not in text


def test_a_limit_is_said(study: StudyRecord) -> None:
    text = printed(render(compare([study], []), limit=5))
    assert "The first 5 of 16 runs." in text
    assert text.count("complete") == 5


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_numbers_are_whole_at_every_width(study: StudyRecord, width: int) -> None:
    text = printed(render(compare([study], [])), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    assert study.best is not None
    assert metric_text(study.best.result.objective) in text
    assert value_text(study.best.params["optim.lr"], log=True) in text
    assert ("Left out in this width: time, from, shared" in text) == (width <= 100)
    assert "▁" in text


def test_nothing_is_left_out_at_120_columns(study: StudyRecord) -> None:
    assert "Left out" not in printed(render(compare([study], [])), width=120)


def test_best_and_pareto_front_show_without_colours(study: StudyRecord) -> None:
    comparison = compare([study], [])
    lines = printed(render(comparison)).splitlines()
    best = next(line for line in lines if "1 ★" in line)
    assert comparison.best is not None
    assert metric_text(comparison.value(comparison.best)) in best
    assert sum("◆" in line for line in lines[2:18]) == len(comparison.pareto) - comparison.is_pareto(comparison.best)
    assert "◆ on the Pareto front of val/python/loss, val/english/forgetting" in "\n".join(lines)


def test_what_trunks_saved_is_said(study: StudyRecord) -> None:
    text = printed(render(compare([study], [])))
    trained, shared = (sum(getattr(run.result.tokens, kind) for run in study.runs) for kind in ("trained", "shared"))
    assert f"{(trained + shared) / trained:.2f} times as many" in text
    assert "from" in text.splitlines()[0]


def test_the_length_of_a_run_leaves_out_steps_that_were_trained_twice(study: StudyRecord) -> None:
    assert printed(render(compare([after_a_kill(study)], []))).split("★ best")[0].count(count_text(STEPS * BATCH_TOKENS)) == len(
        [run for run in study.runs if run.state == "complete"]
    )


@pytest.mark.parametrize(
    ("values", "width", "text"),
    [([0, 7], 8, "▁█"), ([0, 0, 7, 7], 2, "▁█"), ([3, 3], 8, "▄▄"), ([-5, 99], 8, "▁█"), ([], 8, ""), (range(8), 8, "▁▂▃▄▅▆▇█")],
)
def test_a_curve_in_a_few_characters(values: list[float], width: int, text: str) -> None:
    assert sparkline(values, 0, 7, width=width) == text


def test_a_pipe_gets_the_full_width(study: StudyRecord) -> None:
    stream = io.StringIO()
    show(render(compare([study], [])), Console(file=stream))
    assert "val/english/forgetting ≤ 0.3" in stream.getvalue()
    assert "2m48s" in stream.getvalue()


def test_the_best_is_green_and_a_violated_constraint_red(study: StudyRecord) -> None:
    text = printed(render(compare([study], [])), colors=True)
    assert study.best is not None
    assert f"\x1b[1;32m{metric_text(study.best.result.objective)}" in text.replace(" ", "")
    assert "\x1b[31m" in text
    assert " !" in printed(render(compare([study], [])))


def test_words_of_users_are_no_markup(tmp_path: Path) -> None:
    sweep = {"space": {"data.packing": {"choices": ["[red]a[/red]", "[bold]"]}}}
    study = load_study(write_study(tmp_path, name="[blue]", trials=2, sweep=sweep))
    run = load_run(write_run(RunDirectory(tmp_path / "[i]x"), {**study.runs[0].params, "data.packing": "[/nope]"}, random.Random(0)))
    text = printed(render(compare([study], [run])))
    assert "[blue]/0000" in text
    assert "[/nope]" in text


def test_empty_comparisons_print(tmp_path: Path) -> None:
    assert printed(render(compare([load_study(write_study(tmp_path, trials=0))], [])))
    assert printed(render(compare([], [])))


def test_importances_are_bars(study: StudyRecord) -> None:
    comparison = compare([study], [])
    lines = printed(render_importances(comparison)).splitlines()
    assert lines[1].split()[0] == "lr"
    assert "█" * 40 in lines[1]
    assert "4 complete trials of full length" in printed(render_importances(compare([], [])))


def test_numbers_read_well() -> None:
    assert [value_text(v) for v in (0.0032, 0.05, 1e-4, 12345.0, 1e6, 0, True, None, "wsd", [0.9, 0.95])] == [
        *("3.2e-03", "0.05", "1e-04", "12345", "1000000", "0", "true", "null", "wsd", "[0.9, 0.95]"),
    ]
    assert [value_text(v, log=True) for v in (0.0221, 300.0, 1e3, 1e12)] == ["2.21e-02", "300", "1000", "1e+12"]
    assert [count_text(n) for n in (512, 16_384, 2_100_000, 999_999, 1.3e9)] == ["512", "16.4k", "2.1M", "1000k", "1.3B"]
    assert [duration_text(s) for s in (4.2, 42, 190, 3720, 200_000)] == ["4.2s", "42s", "3m10s", "1h02m", "2d07h"]


def test_values_of_a_parameter_are_told_apart_and_null_is_no_inactive_one(study: StudyRecord) -> None:
    choices = [0.0030001, 0.0030002, None]
    runs = [
        replace(run, trial=replace(run.trial, params={**run.params, "optim.lr": choices[place % 3]} if place else {}))
        for place, run in enumerate(study.runs[:5])
        if run.trial
    ]
    told = replace(study, runs=runs, sweep={**study.sweep, "space": {"optim.lr": {"choices": choices}}})
    text = printed(render(compare([told], [])))
    assert [text.count(value) for value in ("3.0001e-03", "3.0002e-03", "null")] == [1, 2, 1]
    assert text.count("—") > 0


def test_ambiguous_names_stay_whole() -> None:
    assert short_names(["optim.lr", "model.path", "a.x", "b.x"]) == {
        "optim.lr": "lr",
        "model.path": "model.path",
        "a.x": "a.x",
        "b.x": "b.x",
    }


def test_a_zero_has_no_sign() -> None:
    assert (metric_text(-0.0), metric_text(0.0), metric_text(-0.5)) == ("0.0000", "0.0000", "-0.5000")
