"""Which studies and recipes at hand count as earlier ones, what is said of the others, and a search that begins with their prediction."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.private import Scrub
from harness.config.schema import ModelConfig
from harness.config.validate import to_plain, to_section
from harness.runs.bundle import BundleDirectory
from harness.runs.directory import RunDirectory, StudyDirectory, find_study
from harness.runs.files import read_json, read_yaml, write_json, write_yaml
from harness.runs.record import RunRecord, load_study
from harness.runs.result import Result, Tokens, read_result, write_result
from harness.runs.trial import Trial, claimed_trial, write_trial
from harness.runs.trials_table import read_trials, write_trials
from harness.search.around_earlier import Around
from harness.search.checks import advice
from harness.search.earlier import start_from_earlier
from harness.search.earlier_studies import Earlier, earlier_studies
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.scaling import model_size
from harness.search.space import parse_space
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep, thaw
from tests.search.conftest import MakeSweep, WriteSweep
from tests.search.studies import Attempt


def planted(size: int, tokens: int) -> float:
    return float(0.4 * size**-0.25 * tokens**0.02)


def write_study(
    sweep: Sweep, width: int, tokens: int, *, rates: int = 7, feasible: Callable[[float], bool | None] = lambda lr: None
) -> StudyDirectory:
    directory = open_study(sweep)
    model = ModelConfig(hidden_size=width, heads=4, layers=2)
    config = {**to_plain(sweep.base.config), "model": to_plain(model)}
    for number in range(rates):
        lr = 1e-3 * 2**number
        params = {"optim.lr": lr, "schedule": "linear"}
        cost = 2 + 0.1 * math.log(lr / planted(model_size(model), tokens)) ** 2
        run = directory.trial(number)
        write_trial(run, Trial(number=number, params=params, tokens=tokens))
        write_yaml(run.config, {**config, "optim": {**config["optim"], "lr": lr}})
        write_result(run, Result(state="complete", objective=cost, tokens=Tokens(budgeted=tokens), feasible=feasible(lr)))
    return directory


def export(study: str, name: str, *, trial: int | None = None, trials: int = 7, **changed: Any) -> BundleDirectory:
    """A recipe of a study, of its best or another trial, with its first so many trials; as `harness best --export` writes it."""
    record = load_study(find_study(study))
    run = record.best if trial is None else record.runs[trial]
    assert run is not None
    directory = BundleDirectory(Path("conf/experiment/best") / name)
    write_yaml(directory.config, Scrub().config(run.config))
    rows = [
        {
            "role": "search",
            "number": one.number,
            "state": one.state,
            "feasible": one.result.feasible,
            "objective": one.result.objective,
            **{f"params.{key}": value for key, value in one.params.items()},
            "tokens.budgeted": one.result.tokens.budgeted,
        }
        for one in record.runs[:trials]
    ]
    write_trials(directory.trials, rows)
    said: dict[str, Any] = {
        "name": name,
        "created": "2026-12-01",
        "study": study,
        "trial": run.number,
        "trials": len(rows),
        "base": [],
        "task": {},
        "model": {"name": "m", "size": model_size(to_section(ModelConfig, run.config["model"]))},
        "metric": record.objective.metric,
        "direction": record.objective.direction,
        "objective": run.result.objective,
        "confirmed": False,
        "interval": None,
        "seeds": [],
        "noise": None,
        "constraints": record.constraints,
        "params": run.params,
        "space": record.sweep["space"],
        "seed": 0,
        "steps": 4,
        "tokens": asdict(run.result.tokens),
        "seconds": 1.0,
        "versions": {},
        "git_commit": None,
        "fingerprints": {},
        "hardware": {},
    }
    write_json(directory.path / "bundle.json", {**said, **changed})
    return directory


def asked(sweep: Sweep) -> tuple[list[Earlier], dict[str, str]]:
    return earlier_studies(sweep.config, [sweep.space["optim.lr"]], sweep.base.config, "study")


def names(sweep: Sweep) -> list[str]:
    return [one.name for one in asked(sweep)[0]]


@pytest.fixture
def studies(tmp_path: Path, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Four studies of other sizes and lengths, each a row of seven rates over two schedules; the sweep that they were of."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    for name, width, tokens in (("a", 32, 10**6), ("b", 64, 10**6), ("c", 64, 10**7), ("d", 128, 10**7)):
        write_study(make_sweep(name=name), width, tokens)
    return make_sweep(search={"prior": "earlier", "startup_trials": 4}, budget={"trials": 12})


def test_all_comparable_studies_at_hand_are_asked(studies: Sweep) -> None:
    model = ModelConfig(hidden_size=96, heads=4, layers=2)
    base = studies.base.config
    config = type(base)(**{**vars(base), "model": model})
    points, prior, around, notes = start_from_earlier(studies.config, studies.space, config, 3 * 10**6, name="study")
    expected = planted(model_size(model), 3 * 10**6)
    assert prior["optim.lr"]["mean"] == pytest.approx(expected, rel=0.01)
    assert prior["optim.lr"]["spread"] == 1.5
    assert points[0] == {"schedule": "linear", "optim.lr": pytest.approx(expected, rel=0.01)}
    assert around is not None
    assert around.surface["curvature"] == [[pytest.approx(0.2)]], "what all of them have"
    assert "over 4 studies: left out one by one, they are met within a factor of 1" in notes[0]
    assert notes[1].startswith("search.prior=earlier: nearest of 4: ")
    assert notes[1].endswith("trial 0 is the prediction, the next ones its neighbours, then where these move the optimum")


def test_what_looked_for_something_else_or_trained_otherwise_is_not(studies: Sweep) -> None:
    base = studies.base.config
    other = type(base)(**{**vars(base), "optim": type(base.optim)(**{**vars(base.optim), "name": "lion"})})
    assert start_from_earlier(studies.config, studies.space, other, 10**6, name="study") == (
        [],
        {},
        None,
        [
            "search.prior=earlier: no earlier study is comparable; left out of those at hand: 4 (named in search.scaling_studies, it is "
            "said why); the search begins as without a prior"
        ],
    )


def test_named_ones_alone_are_asked_and_must_exist(studies: Sweep, make_sweep: MakeSweep) -> None:
    some = make_sweep(search={"prior": "earlier", "scaling_studies": ["b"]})
    *_, notes = start_from_earlier(some.config, some.space, some.base.config, 10**6, name="study")
    assert "the optimum of b, the nearest of 1: nothing says how well that holds" in notes[0]
    none = make_sweep(search={"prior": "earlier", "scaling_studies": ["nowhere"]})
    with pytest.raises(InputError, match="nowhere"):
        start_from_earlier(none.config, none.space, none.base.config, 10**6, name="study")


def named(make_sweep: MakeSweep, *names: str, **more: dict[str, Any]) -> Sweep:
    return make_sweep(search={"prior": "earlier", "scaling_studies": [*names]}, **more)


@pytest.mark.slow
def test_each_study_counts_once_however_often_it_was_exported(studies: Sweep, make_sweep: MakeSweep, tmp_path: Path) -> None:
    export("a", "early", trials=5)
    export("a", "x")
    export("a", "y")
    assert names(studies) == ["a", "b", "c", "d"]
    assert names(named(make_sweep, "b", "b", str(tmp_path / "runs/b"))) == ["b"]
    found, left_out = asked(named(make_sweep, "best/early", "best/y", "best/x"))
    assert [one.name for one in found] == ["best/x"], "that of most trials, by name"
    assert left_out == dict.fromkeys(["best/early", "best/y"], "it has the trials of best/x, which count once")
    shutil.rmtree(tmp_path / "runs/a")
    assert names(studies) == ["b", "c", "d", "best/x"]


def test_two_studies_of_one_name_are_two(studies: Sweep) -> None:
    directory = export("a", "x")
    change_json(directory.path / "bundle.json", {"study": "b"})
    shutil.rmtree(find_study("a").path)
    assert names(studies) == ["b", "c", "d", "best/x"]


def test_a_recipe_counts_by_the_trials_of_its_study_that_meet_its_constraints(studies: Sweep, make_sweep: MakeSweep) -> None:
    bound: dict[str, dict[str, Any]] = {"constraints": {"val/domain/forgetting": {"max": 0.3, "chance": 0.9}}}
    some = write_study(make_sweep(name="some", **bound), 32, 10**6, feasible=lambda lr: lr < 0.01)
    none = write_study(make_sweep(name="none", **bound), 32, 10**6, feasible=lambda lr: False)
    best = asked(named(make_sweep, "some"))[0][0].best
    export("some", "broken", trial=6)
    export("none", "nothing", trial=0)
    for directory in (some, none):
        shutil.rmtree(directory.path)
    found, left_out = asked(named(make_sweep, "best/broken", "best/nothing"))
    assert [one.best for one in found] == [best], "not the trial that breaks the bound"
    assert not found[0].has_same_constraints
    assert asked(named(make_sweep, "best/broken", constraints={"val/domain/forgetting": {"max": 0.3}}))[0][0].has_same_constraints
    assert left_out == {"best/nothing": "it has no complete trial of full length that meets its constraints"}


def test_data_are_the_same_by_whatever_path(studies: Sweep, make_sweep: MakeSweep, tmp_path: Path) -> None:
    def change(path: Callable[[str], str], **more: Any) -> None:
        for run in find_study("a").trials():
            config = read_yaml(run.config)
            for name, source in studies.base.config.data.sources.items():
                config["data"]["sources"][name].update({"path": path(str(source.path)), **more})
            write_yaml(run.config, config)
            write_result(run, replace(read_result(run), directory=str(tmp_path)))

    def link(path: str) -> str:
        here = tmp_path / Path(path).name
        here.unlink(missing_ok=True)
        here.symlink_to(path)
        return str(here)

    for other in (link, lambda path: Path(link(path)).name, str):
        change(other)
        assert asked(named(make_sweep, "a"))[0][0].has_same_data
    export("a", "x")
    assert asked(named(make_sweep, "best/x"))[0][0].has_same_data, "by the names of the files, which is all that a recipe has"
    change(str, field="other")
    export("a", "y")
    assert not any(one.has_same_data for word in ("a", "best/y") for one in asked(named(make_sweep, word))[0])


def test_of_named_ones_that_do_not_count_it_is_said_why(studies: Sweep, make_sweep: MakeSweep) -> None:
    write_study(make_sweep(name="max", objective={"direction": "maximize"}), 32, 10**6)
    write_study(make_sweep(name="short"), 32, 10**6, rates=0)
    write_study(make_sweep(name="single"), 32, 10**3, rates=1)
    sweep = named(make_sweep, "max", "short", "single", "a")
    *_, notes = start_from_earlier(sweep.config, sweep.space, sweep.base.config, 10**6, name="study")
    assert notes[:3] == [
        "search.prior=earlier: max: it looks for val/domain/loss (maximize), this sweep for val/domain/loss (minimize)",
        "search.prior=earlier: short: it has no complete trial of full length that meets its constraints",
        "search.prior=earlier: single: no optimum could be fitted to its trials, as to those of others",
    ]


DAMAGES: dict[str, Callable[[Path], None]] = {
    "its sources are a text": lambda path: change_yaml(path / "config.yaml", {"data": "x"}),
    "it has no data": lambda path: change_yaml(path / "config.yaml", {"data": None}),
    "its optimizer is a text": lambda path: change_yaml(path / "config.yaml", {"optim": "adamw"}),
    "its optimizer is a list": lambda path: change_yaml(path / "config.yaml", {"optim": [1]}),
    "it has no model": lambda path: change_yaml(path / "config.yaml", {"model": None}),
    "its source is a text": lambda path: change_yaml(path / "config.yaml", {"data": {"sources": {"a": "b"}}}),
    "its configuration is gone": lambda path: (path / "config.yaml").unlink(),
}
OF_RECIPES: dict[str, Callable[[Path], None]] = {
    "its choices are a number": lambda path: change_json(path / "bundle.json", {"space": {"optim.lr": {"choices": 5}}}),
    "its tokens are negative": lambda path: change_json(path / "bundle.json", {"tokens": {"budgeted": -5}}),
    "its losses are no numbers": lambda path: change_table(path / "trials.parquet", {"objective": math.nan}),
    "its losses are beyond all": lambda path: change_table(path / "trials.parquet", {"objective": 1e300}),
    "its losses are true": lambda path: change_table(path / "trials.parquet", {"objective": True}),
    "its rates are infinite": lambda path: change_table(path / "trials.parquet", {"params.optim.lr": math.inf}),
    "its trials are gone": lambda path: (path / "trials.parquet").unlink(),
}


def test_of_a_recipe_shorter_runs_of_a_trunk_search_do_not_count(studies: Sweep, make_sweep: MakeSweep) -> None:
    directory = export("a", "x")
    rows = read_trials(directory.trials)
    short = [{**row, "number": 7 + n, "objective": 1.0 + n, "params.trainer.max_tokens": 10**5} for n, row in enumerate(rows)]
    write_trials(directory.trials, [*({**row, "params.trainer.max_tokens": 10**6} for row in rows), *short])
    (alone,), (found,) = asked(named(make_sweep, "a"))[0], asked(named(make_sweep, "best/x"))[0]
    assert found.optima == alone.optima


@pytest.mark.slow
def test_a_damaged_recipe_breaks_no_sweep(studies: Sweep) -> None:
    for place, (damage, do) in enumerate((DAMAGES | OF_RECIPES).items()):
        do(export("a", f"x{place}").path)
        found, left_out = asked(studies)
        assert [one.name for one in found if one.optima][:4] == ["a", "b", "c", "d"], damage
    assert len(left_out) == len(DAMAGES | OF_RECIPES) - 2, "all but those of which the best trial can be read"


@pytest.mark.slow
def test_a_damaged_study_breaks_no_sweep_and_is_told_where_it_is_named(studies: Sweep, make_sweep: MakeSweep) -> None:
    sweep = named(make_sweep, "one")
    for damage, do in DAMAGES.items():
        do(write_study(make_sweep(name="one"), 32, 10**4, rates=1).trial(0).path)
        assert names(studies) == ["a", "b", "c", "d"], damage
        with pytest.raises(InputError, match=r"search\.scaling_studies: one cannot be read: .*config\.yaml: damaged: "):
            asked(sweep)
        shutil.rmtree(find_study("one").path)


@pytest.mark.parametrize(
    "values",
    [
        {"config": None},
        {"config": {"trainer": 1}},
        {"objective": {"metric": "val/domain/loss", "of_next_year": 1}},
        {"objective": {"metric": "val/domain/loss", "also": [{"direction": "minimize"}]}},
    ],
)
def test_a_foreign_sweep_breaks_none(studies: Sweep, make_sweep: MakeSweep, values: dict[str, Any]) -> None:
    change_yaml(find_study("a").sweep, values)
    assert names(studies) == ["b", "c", "d"]
    with pytest.raises(InputError, match=r"search\.scaling_studies: a cannot be read: .*sweep\.yaml: damaged: "):
        asked(named(make_sweep, "a"))


def change_yaml(path: Path, values: dict[str, Any]) -> None:
    write_yaml(path, {**read_yaml(path), **values})


def change_json(path: Path, values: dict[str, Any]) -> None:
    write_json(path, {**(read_json(path) or {}), **values})


def change_table(path: Path, values: dict[str, Any]) -> None:
    write_trials(path, [{**row, **values} for row in read_trials(path)])


def test_without_a_log_scale_there_is_nothing_to_predict(studies: Sweep) -> None:
    space = parse_space({"data.replay_share": {"low": 0.0, "high": 0.5}})
    with pytest.raises(InputError, match="needs a parameter on a log scale in the space"):
        start_from_earlier(studies.config, space, studies.base.config, 10**6, name="study")


@pytest.mark.slow
def test_a_sweep_begins_with_the_prediction_and_goes_on_where_its_trials_move_it(studies: Sweep, write_sweep: WriteSweep) -> None:
    search = {"name": "tpe", "prior": "earlier", "startup_trials": 6}
    sweep = load_sweep(str(write_sweep("next", search=search, budget={"trials": 12})), [])
    assert any("over 4 studies" in line for line in sweep.start.lines())
    few = load_sweep(str(write_sweep("few", search=search, budget={"trials": 5})), [])
    assert not [line for line in advice(few) if "nothing is learnt" in line], "its first trials learn from each other"
    directory = open_study(sweep)
    study = Study(directory, thaw(directory.sweep), "w")
    predicted = sweep.start.points[0]["optim.lr"]
    rates = []
    for _ in range(4):
        claim = study.claim()
        assert isinstance(claim, Claim)
        params: dict[str, Any] = claimed_trial(claim.run).params or {}
        rates.append(params["optim.lr"] / predicted)
        study.settle(claim, Attempt(claim.run).complete(2 + 0.1 * math.log(rates[-1] / 1.25) ** 2))
    assert rates[:2] == pytest.approx([1, 2**0.5])
    assert min(abs(math.log(rate / 1.25)) for rate in rates) < 0.02


@pytest.mark.slow
def test_where_trials_break_a_constraint_the_lowest_point_is_not_sought(studies: Sweep, write_sweep: WriteSweep) -> None:
    sweep = load_sweep(str(write_sweep("next", search={"name": "tpe", "prior": "earlier"}, budget={"trials": 12})), [])
    number, record = len(sweep.start.points), RunRecord(RunDirectory(Path("0")), Result(state="complete", objective=2.0), state="complete")
    assert sweep.pinned(number, ended=2, records=list) == sweep.space.in_optuna(
        Around(**(sweep.start.around or {})).next_point(sweep.space, [], sweep.valid) or {}
    )
    infeasible = replace(record, result=replace(record.result, feasible=False))
    assert sweep.pinned(number, ended=2, records=lambda: [infeasible]).keys() == sweep.start.prior.keys(), "a draw from the prior"
