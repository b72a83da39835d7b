from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.config.compose import defaults
from harness.config.schema import Config
from harness.report.comparison import compare
from harness.report.curves import LIMIT, curve, drawn_runs, rates
from harness.report.figure_style import INFEASIBLE
from harness.report.figures import slice_of, tradeoff
from harness.report.history import histories
from harness.report.page import page, write_page
from harness.report.runs_table import runs_table
from harness.report.samples import samples_section
from harness.report.text import count_text
from harness.report.trunk_tree import drawn_rows, trunk_tree
from harness.runs.directory import RunDirectory
from harness.runs.files import write_json, write_yaml
from harness.runs.generations import WrittenText
from harness.runs.record import RunRecord, StudyRecord, load_run, load_study
from tests.report.conftest import after_a_kill
from tests.report.synthetic_study import BATCH_TOKENS, STEPS, draw, write_run, write_study, write_trial_run
from tests.support.browser import dom_of, needs_chromium

EVIL = "</script><script>alert(1)</script>"


class Elements(HTMLParser):
    """What a browser would see: the elements with their attributes, the text outside scripts, and the figures."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.figures: list[dict[str, Any]] = []
        """As the page shows them at first."""
        self.views: list[list[str]] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        last, attributes = self.elements[-1] if self.elements else ("", {})
        if attributes.get("id") == "figures" and not self.figures and data.startswith("["):
            self.figures = [views[0] for views in json.loads(data)]
            self.views = [[view["name"] for view in views] for views in json.loads(data)]
        elif last not in ("script", "style") or len(data) < 10_000:
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def written(id_: str, text: str, score: float | None = None) -> WrittenText:
    return WrittenText("sums", id_, f"prompt of {id_} {EVIL}", 0, text, tokens=3, finish="stop", score=score)


def test_what_runs_wrote_is_shown_side_by_side_as_text(study: StudyRecord) -> None:
    best, second, third = compare([study], []).runs[:3]
    best.directory.generations.append(0, [written("a", "before")])
    best.directory.generations.append(9, [written(id_, f"best of {id_} {EVIL}", 1.0) for id_ in "abcdef"])
    second.directory.generations.append(9, [written("b", "x" * 5000, 0.0)])
    document = page(compare([study], []))
    assert EVIL not in document
    section = document.partition('<section id="samples">')[2].partition("</section>")[0]
    assert re.findall(r'<th scope="col" title="([^"]*), step 9">', section) == [best.name, second.name]
    text = Elements(section).text
    assert [f"best of {id_} {EVIL}" in text for id_ in "abcdef"] == [True] * 4 + [False] * 2
    assert f"prompt of a {EVIL}" in text
    assert "before" not in text
    assert third.name not in section
    assert "3 tokens, stop, right" in text
    assert "3 tokens, stop, wrong" in text
    assert len(text) < 5000 + 2000
    assert '<a href="#samples">' in document


def test_texts_of_a_steering_study_stand_beside_those_of_doing_nothing_and_of_the_prompt(study: StudyRecord) -> None:
    comparison = compare([study], [])
    for run, control in zip(comparison.runs, (None, "prompt", "nothing"), strict=False):
        run.directory.generations.append(0, [written("a", f"text of {control}")])
        vars(run)["config"] = {"adapter": {"name": "steering", "control": control}}
    section = samples_section(comparison)
    heads = re.findall(r"<th scope=\"col\" title=\"[^\"]*\">([^<]*)<", section)
    assert [head.partition(", ")[2] for head in heads] == ["nothing", "prompt", ""]
    assert re.findall(r"text of (\w+)", section) == ["nothing", "prompt", "None"]


def test_of_a_single_run_the_first_and_the_last_texts_are_shown(study: StudyRecord) -> None:
    run = compare([study], []).runs[0]
    for step in (0, 5, 9):
        run.directory.generations.append(step, [written("a", f"text at {step}")])
    section = samples_section(compare([], [run]))
    assert re.findall(r"<th scope=\"col\" title=\"[^\"]*\">([^<]*)<", section) == ["step 0", "step 9"]
    assert [f"text at {step}" in section for step in (0, 5, 9)] == [True, False, True]


def test_without_texts_there_are_no_samples_and_what_is_damaged_is_said(study: StudyRecord, caplog: pytest.LogCaptureFixture) -> None:
    assert samples_section(compare([study], [])) == ""
    run = compare([study], []).runs[0]
    run.directory.generations.path.mkdir()
    assert samples_section(compare([study], [])) == ""
    assert f"{run.name}: its samples are not shown" in caplog.text


@pytest.fixture
def seen(study: StudyRecord) -> Elements:
    return Elements(page(compare([study], [])))


def single(root: Path, name: str = "hand", seed: int = 1) -> RunRecord:
    random_ = random.Random(seed)
    return load_run(write_run(RunDirectory(root / name), draw(random_), random_))


def test_the_page_needs_nothing_else(seen: Elements) -> None:
    references = [
        value for _, attributes in seen.elements for name, value in attributes.items() if name in ("src", "href", "srcset", "data")
    ]
    assert [reference for reference in references if not str(reference).startswith("#")] == []
    assert seen.count("link") == seen.count("img") == seen.count("iframe") == 0


def test_nothing_can_be_uploaded(study: StudyRecord) -> None:
    assert 'showSendToCloud: false, plotlyServerURL: ""' in page(compare([study], []))


def test_the_sections_are_there(seen: Elements, study: StudyRecord) -> None:
    for words in (
        "cpt_python",
        "minimize",
        "val/python/loss",
        "≤ 0.3",
        "Best trial",
        "32 trials",
        "64M tokens",
        "11 complete · 1 infeasible · 2 pruned",
    ):
        assert words in seen.text
    for name in ("Gain over the start", "Gain over the median", "Ahead of the runner-up", "Not confirmed: one seed"):
        assert name in seen.text
    for title in ("Optimisation history", "Importances", "Parallel coordinates", "optim.lr", "Learning-rate schedules", "train/loss"):
        assert title in seen.text
    assert "Objective against val/english/forgetting" in seen.text
    assert seen.count("tr") == len(study.runs) + 1
    assert len(seen.figures) == sum((attributes.get("class") == "plot") for _, attributes in seen.elements)


def test_figures_leave_the_theme_to_the_page(seen: Elements) -> None:
    assert not any("template" in figure["layout"] for figure in seen.figures)
    axis = next(figure["layout"]["coloraxis"] for figure in seen.figures if "coloraxis" in figure["layout"])
    assert "colorscale" not in axis


def test_parallel_coordinates_have_readable_ticks(seen: Elements) -> None:
    lines = next(figure["data"][0] for figure in seen.figures if figure["data"][0]["type"] == "parcoords")
    dimensions = {dimension["label"]: dimension for dimension in lines["dimensions"]}
    assert list(dimensions) == ["lr", "schedule", "decay_fraction", "packing", "replay_share", "english/forgetting", "python/loss"]
    assert dimensions["lr"]["ticktext"][0] == "1e-04"
    assert dimensions["lr"]["tickvals"][0] == pytest.approx(-4)
    assert dimensions["schedule"]["ticktext"] == ["cosine", "linear", "wsd"]
    assert dimensions["decay_fraction"]["ticktext"][0] == "—"


def test_parallel_coordinates_have_the_best_on_top_and_the_infeasible_below_the_scale(seen: Elements, study: StudyRecord) -> None:
    comparison = compare([study], [])
    lines = next(figure["data"][0] for figure in seen.figures if figure["data"][0]["type"] == "parcoords")
    assert [comparison.runs[place] for place in lines["meta"]["runs"]][-1] is comparison.best
    assert lines["meta"]["best"] == 0
    feasible = [comparison.feasible(comparison.runs[place]) for place in lines["meta"]["runs"]]
    assert [color < 0 for color in lines["line"]["color"]] == [each is False for each in feasible]
    assert lines["line"]["color"][-1] == max(lines["line"]["color"]) == 1


def test_rates_within_one_decade_have_ticks_in_view(study: StudyRecord) -> None:
    runs = [
        replace(run, trial=replace(run.trial, params={**run.params, "optim.lr": 1.2e-3 + 1e-5 * place}))
        for place, run in enumerate(study.runs)
        if run.trial
    ]
    figure = slice_of(compare([replace(study, runs=runs)], []), "optim.lr")
    assert figure is not None
    axis = figure.layout.xaxis
    assert axis.ticktext == ("1e-03", "3e-03")
    assert axis.range[0] < math.log10(1e-3) < math.log10(3e-3) < axis.range[1]


def test_the_history_marks_what_is_not_feasible(seen: Elements) -> None:
    names = [trace.get("name") for trace in seen.figures[0]["data"]]
    assert names == ["best so far", "infeasible", "feasible", "pruned", "failed", "best"]
    steps = seen.figures[0]["data"][0]
    assert steps["y"] == sorted(steps["y"], reverse=True)


def test_a_maximised_objective_climbs(tmp_path: Path) -> None:
    sweep = {"objective": {"metric": "val/python/loss", "direction": "maximize"}, "constraints": {}}
    seen = Elements(page(compare([load_study(write_study(tmp_path, sweep=sweep))], [])))
    steps = seen.figures[0]["data"][0]
    assert steps["y"] == sorted(steps["y"])
    assert steps["y"][-1] > steps["y"][0]
    axes = [figure["layout"]["coloraxis"] for figure in seen.figures if "coloraxis" in figure["layout"]]
    assert all(axis["reversescale"] for axis in axes)


def test_trials_far_off_are_counted_and_keep_their_values(study: StudyRecord) -> None:
    worst = compare([study], []).runs[3]
    far = replace(worst, result=replace(worst.result, objective=19.0))
    seen = Elements(page(compare([replace(study, runs=[far if run is worst else run for run in study.runs])], [])))
    assert "1 far off, beyond the axis" in seen.text
    assert "diverged" not in seen.text
    lines = next(figure["data"][0] for figure in seen.figures if figure["data"][0]["type"] == "parcoords")
    axis = lines["dimensions"][-1]
    assert axis["ticktext"][-1] == "far off: 19.0000"
    assert axis["tickvals"][-1] == axis["range"][1] == max(axis["values"]) < 19
    assert all(axis["range"][0] <= tick < axis["range"][1] for tick in axis["tickvals"][:-1])


def test_words_of_users_are_text(tmp_path: Path) -> None:
    sweep = {"space": {"data.packing": {"choices": [EVIL, "concat"]}, "schedule": {"choices": ["cosine", "linear", "wsd"]}}}
    study = write_study(tmp_path, trials=6, sweep=sweep)
    write_trial_run(study, 6, {**draw(random.Random(3)), "data.packing": EVIL}, random.Random(3))
    record = load_study(study)
    named = replace(record, runs=[replace(run, study="<script>x</script>") for run in record.runs])
    document = page(compare([named], []))
    assert EVIL not in document
    assert "<script>alert" not in document
    seen = Elements(document)
    assert seen.count("script") == 4
    assert EVIL in seen.text


def test_a_study_can_be_called_anything(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, name="<script>alert(1)<", trials=5))
    document = page(compare([study], []))
    assert "<script>alert" not in document
    assert Elements(document).count("script") == 4


@pytest.mark.parametrize("case", ["no trials", "none complete", "no feasible one", "one trial", "no space", "one run", "runs", "nothing"])
def test_there_is_always_a_page(tmp_path: Path, case: str) -> None:
    def study(trials: int, **more: Any) -> StudyRecord:
        return load_study(write_study(tmp_path, trials=trials, **more))

    studies, runs = {
        "no trials": lambda: ([study(0)], []),
        "none complete": lambda: ([study(3, states={0: "failed", 1: "pruned", 2: "waiting"})], []),
        "no feasible one": lambda: ([study(5, sweep={"constraints": {"val/english/forgetting": {"max": -1}}})], []),
        "one trial": lambda: ([study(1)], []),
        "no space": lambda: ([study(5, sweep={"space": {}})], []),
        "one run": lambda: ([], [single(tmp_path)]),
        "runs": lambda: ([], [single(tmp_path), single(tmp_path, "other", 2)]),
        "nothing": lambda: ([], []),
    }[case]()
    write_page(compare(studies, runs), tmp_path / "out" / "page.html")
    seen = Elements((tmp_path / "out" / "page.html").read_text())
    shown = sum("data-run" in attributes for _, attributes in seen.elements)
    assert shown == len(runs) + sum(len(each.runs) for each in studies)
    assert ("learning-rate schedules" in seen.text.lower()) == (case not in ("no trials", "nothing"))


def test_curves_of_many_trials_are_limited_to_the_best(tmp_path: Path) -> None:
    comparison = compare([load_study(write_study(tmp_path, trials=LIMIT + 10))], [single(tmp_path)])
    drawn = drawn_runs(comparison)
    assert len(drawn) == LIMIT
    assert drawn[0] is comparison.best
    assert drawn[-1] is comparison.runs[-1]
    assert f"The best {LIMIT} of {LIMIT + 11} runs" in page(comparison)


def test_the_search_is_shown_against_what_it_cost(seen: Elements, study: StudyRecord) -> None:
    assert seen.views[0] == ["trials", "tokens", "device-hours"]
    views = histories(compare([study], []))
    trained = sum(run.result.tokens.trained for run in study.runs)
    assert max(views["tokens"].data[0].x) == trained
    hours = sum(run.result.seconds for run in study.runs) / 3600
    assert max(views["device-hours"].data[0].x) == pytest.approx(hours)
    best = study.best
    assert best is not None
    assert all(min(view.data[0].y) == best.result.objective for view in views.values())


def test_hours_of_gpus_are_called_so(study: StudyRecord) -> None:
    on_gpu = [replace(run, result=replace(run.result, hardware={"gpus": ["an accelerator"]})) for run in study.runs]
    assert "GPU-hours" in histories(compare([replace(study, runs=on_gpu)], []))


def test_the_tree_has_each_branch_under_its_trunk(study: StudyRecord) -> None:
    comparison = compare([study], [])
    rows = drawn_rows(comparison)
    origins = [comparison.origin(run) for run in rows]
    assert origins[0] is None
    assert all(origin in rows[:place] for place, origin in enumerate(origins) if origin)
    figure = trunk_tree(comparison)
    assert figure is not None
    leaves = next(trace for trace in figure.data if trace.name == "leaves the trunk")
    shared = [run.result.tokens.shared for run in rows if run.result.tokens.shared]
    assert [x for x in leaves.x if x is not None][::2] == shared
    assert "every run from scratch" in page(comparison)


def test_a_run_ends_where_it_ends_though_steps_were_trained_twice(study: StudyRecord) -> None:
    comparison = compare([after_a_kill(study)], [])
    figure = trunk_tree(comparison)
    assert figure is not None
    length = STEPS * BATCH_TOKENS
    assert max(x for trace in figure.data for x in trace.x if x is not None) == length
    tokens = [int(cell) for cell in re.findall(rf'<td data-v="(\d+)" class="number">{count_text(length)}</td>', page(comparison))]
    assert tokens
    assert set(tokens) == {length}


def test_a_trade_off_shows_its_whole_bound(study: StudyRecord) -> None:
    figure = tradeoff(compare([study], []), "val/english/forgetting")
    assert figure is not None
    low, high = figure.layout.xaxis.range
    assert low < 0.3 < high
    assert all(low < x < high for trace in figure.data if trace.customdata is not None for x in trace.x)


def test_runs_that_train_nothing_have_no_curves(study: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in study.runs:
        monkeypatch.setitem(vars(run), "rows", [row for row in run.rows if not row.get("tokens")])
    comparison = compare([study], [])
    assert any(run.rows for run in comparison.runs)
    assert curve(comparison, "val/python/loss") is None


def test_infeasible_curves_are_grey_and_lie_below_the_others(study: StudyRecord) -> None:
    comparison = compare([study], [])
    figure = curve(comparison, "val/python/loss")
    assert figure is not None
    drawn = [(trace, comparison.runs[trace.meta["run"]]) for trace in figure.data if trace.meta]
    assert drawn[-1][1] is comparison.best
    greys = [trace.line.color == INFEASIBLE and trace.line.dash == "dot" for trace, _ in drawn]
    assert greys == [comparison.feasible(run) is False for _, run in drawn]
    assert greys == sorted(greys, reverse=True)
    assert any(greys)


def test_a_schedule_is_drawn_as_planned(study: StudyRecord) -> None:
    best = study.best
    assert best is not None
    config = defaults(Config)
    config["trainer"] |= {"max_steps": STEPS, "max_tokens": None, "batch_tokens": BATCH_TOKENS}
    config["optim"]["lr"] = 4e-3
    config["schedule"] |= {"name": "wsd", "warmup": 12, "decay_fraction": 0.25, "decay_shape": "linear"}
    write_yaml(best.directory.config, config)
    figure = rates(compare([load_study(study.directory)], []))
    assert figure is not None
    line = next(trace for trace in figure.data if trace.name.startswith("best"))
    at = dict(zip(line.x, line.y, strict=True))
    # Of every step, where every other one was logged.
    assert list(at) == [step * BATCH_TOKENS for step in range(1, STEPS + 1)]
    assert at[6 * BATCH_TOKENS] == pytest.approx(2e-3)
    assert at[12 * BATCH_TOKENS] == at[90 * BATCH_TOKENS] == pytest.approx(4e-3)
    assert at[106 * BATCH_TOKENS] == pytest.approx(4e-3 * 15 / 30)
    assert at[STEPS * BATCH_TOKENS] == pytest.approx(4e-3 / 30)


def test_a_run_knows_its_page_in_wandb_if_that_can_be_opened(study: StudyRecord) -> None:
    first, second = study.runs[:2]
    write_json(first.directory.wandb_opened, {"id": "a", "entity": None, "project": "p", "url": "https://wandb.test/p/runs/a"})
    write_json(second.directory.wandb_opened, {"id": "b", "entity": None, "project": "p", "url": "javascript:alert(1)"})
    assert [run.page for run in study.runs[:3]] == ["https://wandb.test/p/runs/a", None, None]
    table = runs_table(compare([study], []))
    assert "https://wandb.test/p/runs/a" in table
    assert "javascript:" not in table


def test_a_few_runs_stand_beside_each_other(tmp_path: Path) -> None:
    seen = page(compare([], [single(tmp_path), single(tmp_path, "other", 2)]))
    assert "<h2>Differences</h2>" in seen
    assert "<code>optim.lr</code>" in seen
    assert "<code>optim.name</code>" not in seen


PROBE = f"<script>{Path(__file__).with_name('probe.js').read_text()}</script></body>"


@pytest.mark.slow
@needs_chromium
def test_a_browser_draws_the_page_and_links_its_pictures(study: StudyRecord, tmp_path: Path) -> None:
    comparison = compare([study], [])
    (tmp_path / "page.html").write_text(page(comparison).replace("</body>", PROBE))
    dom = dom_of(f"file://{tmp_path / 'page.html'}", tmp_path / "profile")
    drawn = dom[: dom.index('id="figures"')]
    plots = len(re.findall(r'id="plot-\d+"', drawn))
    assert plots >= 11
    assert len(set(re.findall(r'id="(plot-\d+)" class="plot js-plotly-plot"|class="plot js-plotly-plot" id="(plot-\d+)"', drawn))) == plots
    assert drawn.count("main-svg") >= plots
    assert "Something went wrong" not in drawn
    assert re.search(r'data-ready-ms="\d+"', dom)
    out = next(json.loads(attributes["data-out"] or "") for tag, attributes in Elements(dom).elements if tag == "body")
    assert "error" not in out, out["error"]
    rate = {run.name: comparison.params(run)["optim.lr"] for run in comparison.runs}
    wsd = [run.name for run in comparison.runs if comparison.params(run)["schedule"] == "wsd" and rate[run.name] > 1e-3]
    assert out["filtered"] == wsd
    assert out["said"] == f"{len(wsd)} of {len(comparison.runs)} runs"
    ended = {run.name for run in comparison.runs if run.state != "waiting"}
    assert sorted(out["picked"]) == sorted(name for name in wsd if name in ended)
    assert out["wrong"][0] == "wrong"
    assert "no column “nosuch”" in out["wrong"][1]
    assert "“abc” is no number for optim.lr" in out["wrong"][2]
    best = comparison.runs[0]
    assert best.name in out["rounded"]
    assert all(rate[name] == pytest.approx(rate[best.name], rel=6e-3) for name in out["rounded"])
    ranked = [run for run in comparison.runs if run.result.tokens.reached >= 1.5e6]
    assert out["units"] == [run.name for run in ranked if "linear" not in comparison.params(run)["schedule"]]
    assert out["hash"] == "#filter=tokens+%3E%3D+1%2C5+M++schedule+%21%3D+linear"
    assert out["none"] == [False, f"0 of {len(comparison.runs)} runs"]
    assert out["recalled"] == [run.name for run in comparison.runs if run.state in ("pruned", "failed")]
    assert out["recalledSort"] == "descending"
    assert best.name not in out["more"]
    for words in ("Where it differs (and the best)", f"harness best {comparison.runs[1].name} --export NAME", "lr"):
        assert words in out["more"]
    assert out["curves"] == 2
    assert out["widths"][0] <= out["widths"][1]
    assert "attempts" in out["leftOut"]
    assert out["bestLine"] == 1
    assert out["cleared"] == len(comparison.runs)
    assert out["lit"] >= 8
    complete = [run.name for run in comparison.runs if run.state == "complete"]
    assert out["brushed"] == [name for name in complete if 1e-3 <= rate[name] <= 1e-2]
    assert out["axis"] == "tokens trained by the search so far"
    assert out["pareto"] == [run.name for run in comparison.runs if comparison.is_pareto(run)]
    assert out["sorted"] == sorted(rate, key=rate.__getitem__)
    assert comparison.runs[0].name in out["tip"]
    assert out["theme"] == "dark"


NULL_PROBE = """<script>addEventListener("load", async () => {
  const ask = async (words) => {
    const filter = document.getElementById("filter");
    filter.value = words; filter.dispatchEvent(new Event("input"));
    await new Promise((done) => setTimeout(done, 300));
    return rows.filter((row) => !row.hidden).map((row) => Number(row.dataset.run.slice(-4)));
  };
  const out = { null: await ask("lr=null"), high: await ask("lr>0.02") };
  sortBy("-optim.lr");
  out.sorted = Array.from(document.querySelectorAll("#runs tbody tr"), (row) => Number(row.dataset.run.slice(-4)));
  document.body.dataset.out = JSON.stringify(out);
});</script></body>"""


@pytest.mark.slow
@needs_chromium
def test_a_browser_finds_and_sorts_null_apart_from_what_is_not_active(study: StudyRecord, tmp_path: Path) -> None:
    chosen: list[dict[str, Any]] = [{"optim.lr": None}, {"optim.lr": 0.03}, {}, {"optim.lr": 0.01}]
    runs = [replace(run, trial=replace(run.trial, params=params)) for run, params in zip(study.runs, chosen, strict=False) if run.trial]
    space = {"optim.lr": {"choices": [None, 0.01, 0.03], "when": {"schedule": "wsd"}}}
    told = replace(study, runs=runs, sweep={**study.sweep, "space": space})
    (tmp_path / "page.html").write_text(page(compare([told], [])).replace("</body>", NULL_PROBE))
    dom = dom_of(f"file://{tmp_path / 'page.html'}", tmp_path / "profile")
    out = next(json.loads(attributes["data-out"] or "") for tag, attributes in Elements(dom).elements if tag == "body")
    assert out == {"null": [0], "high": [1], "sorted": [1, 3, 0, 2]}
