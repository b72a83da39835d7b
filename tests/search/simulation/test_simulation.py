"""Searches in virtual time: the promises of a study under everything that can happen to its workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulation.outcome import Outcome, simulate
from benchmarks.simulation.table import Table, read_table
from benchmarks.simulation.world import Faults
from harness.config.errors import InputError
from harness.config.sweep_schema import SweepConfig
from harness.config.validate import to_plain, to_section
from harness.runs.directory import StudyDirectory
from harness.runs.record import RunRecord, load_study
from harness.runs.result import Result
from harness.search.budget import Budget, open_budget
from harness.search.load_sweep import load_sweep
from harness.search.sweep import Sweep
from harness.search.trial_index import TrialIndex
from tests.search.conftest import WriteSweep

STEPS, BATCH = 40, 128
LENGTH = STEPS * BATCH
FAULTS = Faults(preempted=0.2, killed=0.15, crashed=0.1, slow=0.3, absence_seconds=1.0)
BEST_LR, BEST_LOSS = 1e-2, 2.0

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A parabola in the logarithm of the rate, whose optimum is known."""
    path = tmp_path_factory.mktemp("table") / "toy.csv"
    rows = []
    for power in (-4, -3, -2, -1):
        for step in (0, STEPS // 2, STEPS):
            loss = BEST_LOSS + 0.1 * (power + 2) ** 2 + (1 - step / STEPS)
            rows.append(f"{10.0**power},{step},{loss},{0.3 * step / STEPS}\n")
    path.write_text("optim.lr,step,val/domain/loss,val/general/forgetting\n" + "".join(rows))
    return read_table(path)


@pytest.fixture
def toy(write_sweep: WriteSweep) -> Sweep:
    base = [f"trainer.max_steps={STEPS}", "trainer.max_tokens=null", f"trainer.batch_tokens={BATCH}", "trainer.evaluate_every_steps=10"]
    space = {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}}
    return load_sweep(str(write_sweep(base=base, space=space)), [])


@pytest.fixture
def run(toy: Sweep, table: Table) -> Run:
    def simulated(*, workers: int = 4, seed: int = 0, faults: Faults | None = None, keep: Path | None = None, **sections: Any) -> Outcome:
        plain = to_plain(toy.config)
        changed = {key: {**plain[key], **values} for key, values in {"search": {"max_attempts": 100}, **sections}.items()}
        sweep = Sweep("toy", to_section(SweepConfig, {**plain, **changed, "launcher": {"name": "local", "workers": workers}}))
        return simulate(sweep, table, workers=workers, seed=seed, faults=faults or Faults(), tokens_per_second=100.0, keep=keep)

    return simulated


def test_the_best_of_a_toy_table_is_found_and_dated_by_its_tokens(run: Run) -> None:
    outcome = run(workers=1, budget={"trials": 60}, search={"name": "tpe"})
    assert outcome.best
    assert outcome.best.objective == pytest.approx(BEST_LOSS, abs=0.002)
    assert all(step.tokens == (step.number + 1) * LENGTH for step in outcome.improvements)


def test_a_search_that_confirms_itself_tells_what_its_winner_comes_to(run: Run, tmp_path: Path) -> None:
    budget = {"budget": {"trials": 20}}
    outcome = run(workers=1, keep=tmp_path / "kept", search={"name": "random", "confirm": True}, **budget)
    winner = load_study(StudyDirectory(tmp_path / "kept")).confirmed
    assert winner is not None
    # No seed changes this table.
    assert outcome.confirmed == pytest.approx(winner.values[min(winner.values)])
    assert run(workers=1, search={"name": "random"}, **budget).confirmed is None


@pytest.mark.parametrize("workers", [8, 64])
def test_whatever_happens_the_token_budget_holds_and_no_trial_is_lost(run: Run, workers: int) -> None:
    outcome = run(workers=workers, faults=FAULTS, budget={"trials": None, "tokens": 150 * LENGTH})
    assert outcome.overshoot == {"tokens": 0.0}
    assert 140 * LENGTH < outcome.tokens <= 150 * LENGTH
    assert (outcome.lost, outcome.faulty) == (0, ())
    assert min(outcome.happened[what] for what in ("preempted", "killed", "crashed")) > 0


@pytest.mark.slow
def test_whatever_happens_the_result_is_the_undisturbed_ones(run: Run, tmp_path: Path) -> None:
    budget = {"trials": 100, "tokens": None}
    calm = run(workers=1, budget=budget, keep=tmp_path / "calm")
    wild = run(workers=16, faults=FAULTS, budget=budget, keep=tmp_path / "wild")
    assert wild.attempts > calm.attempts == 100
    studies = [load_study(StudyDirectory(tmp_path / name)) for name in ("calm", "wild")]
    values = [[(trial.number, trial.params, trial.result.metrics) for trial in study.runs] for study in studies]
    assert values[0] == values[1]
    assert calm.best
    assert wild.best
    assert calm.best.objective == wild.best.objective


def test_time_budgets_hold_in_virtual_time(run: Run) -> None:
    hours = 100 * LENGTH / 100.0 / 3600
    outcome = run(workers=8, faults=FAULTS, budget={"trials": None, "gpu_hours": hours})
    assert outcome.overshoot == {"gpu_hours": 0.0}
    assert outcome.lost == 0
    assert outcome.tokens > 40 * LENGTH


def test_a_seed_makes_the_same_search_and_another_another(run: Run) -> None:
    once, again, other = ((run(workers=8, faults=FAULTS, budget={"trials": 40}, seed=seed)) for seed in (1, 1, 2))
    assert once == again != other


def test_given_up_trials_have_cost_what_they_trained(run: Run) -> None:
    outcome = run(workers=2, budget={"trials": 40}, stopping={"name": "successive_halving", "first_rung": 1})
    assert outcome.states["pruned"] > 5
    assert outcome.tokens < 30 * LENGTH


def test_trials_with_a_common_trunk_train_it_once(write_sweep: WriteSweep, tmp_path: Path) -> None:
    path = tmp_path / "decays.csv"
    rows = [f"wsd,{fraction},{step},{3 - fraction - step / STEPS}\n" for fraction in (0.2, 0.5) for step in (0, STEPS)]
    path.write_text("schedule,schedule.decay_fraction,step,val/domain/loss\n" + "".join(rows))
    base = ["schedule=wsd", "schedule.warmup=4", f"trainer.max_steps={STEPS}", "trainer.max_tokens=null", f"trainer.batch_tokens={BATCH}"]
    space = {"schedule.decay_fraction": {"choices": [0.2, 0.3, 0.4, 0.5]}}
    sweep = load_sweep(str(write_sweep(base=base, space=space, search="grid", budget=None)), [])
    outcome = simulate(sweep, read_table(path), workers=1, seed=0, faults=Faults(), tokens_per_second=1e5)
    # The first step of a decay has the full rate still, and belongs to the trunk.
    trunk, decays = 32 + 1, sum(round(fraction * STEPS) - 1 for fraction in (0.2, 0.3, 0.4, 0.5))
    assert outcome.tokens == (trunk + decays) * BATCH
    assert outcome.tokens + outcome.shared_tokens == 4 * LENGTH


def test_a_target_is_dated_by_the_first_trial_that_reached_it(run: Run) -> None:
    outcome = run(workers=1, budget={"trials": 10})
    first, second = outcome.improvements[:2]
    assert outcome.reached((first.objective + second.objective) / 2, "minimize") == second
    assert outcome.reached(first.objective, "minimize") == first
    assert outcome.reached(BEST_LOSS - 0.1, "minimize") is None


def test_the_sums_that_a_study_keeps_are_those_of_its_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = TrialIndex.budget
    compared = 0

    def budget(
        index: TrialIndex, sweep: Sweep, *, now: float, instead: dict[int, Result] | None = None, beside: Sequence[RunRecord] = ()
    ) -> Budget:
        nonlocal compared
        found = kept(index, sweep, now=now, instead=instead, beside=beside)
        if instead is None:
            told = open_budget(sweep.config.budget, [*load_study(index._directory).runs, *beside], now=now)
            assert (found.trials, found.tokens) == (told.trials, told.tokens)
            compared += 1
        return found

    monkeypatch.setattr(TrialIndex, "budget", budget)
    outcome = run(workers=8, faults=FAULTS, budget={"trials": None, "tokens": 40 * LENGTH}, search={"max_attempts": 2})
    assert compared >= 40
    assert outcome.states["failed"] > 0
    assert outcome.overshoot == {"tokens": 0.0}


STEPS_OF_RUNGS = (4, 12, 36)


@pytest.fixture(scope="module")
def annealed(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Runs of three lengths, each annealed: the longer, the better, and the more is forgotten; large rates forget most."""
    path = tmp_path_factory.mktemp("table") / "annealed.csv"
    rows = []
    for steps in STEPS_OF_RUNGS:
        for power in (-4, -3, -2, -1):
            for fraction in (0.2, 0.5):
                for step in (0, steps):
                    done = step / STEPS_OF_RUNGS[-1]
                    loss = BEST_LOSS + 0.1 * (power + 2) ** 2 + 0.2 * abs(fraction - 0.3) + (1 - done) ** 2
                    rows.append(f"{10.0**power},{fraction},{steps},{step},{loss},{0.1 * (power + 4) * done}\n")
    names = "optim.lr,schedule.decay_fraction,trainer.max_steps,step,val/domain/loss,val/general/forgetting"
    path.write_text(f"{names}\n" + "".join(rows))
    return read_table(path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 3))])
def test_a_trunk_search_keeps_its_promises_whatever_happens(annealed: Table, write_sweep: WriteSweep, tmp_path: Path, seed: int) -> None:
    whole = STEPS_OF_RUNGS[-1] * BATCH
    base = ["schedule=wsd", "schedule.warmup=1", f"trainer.max_steps={STEPS_OF_RUNGS[-1]}", "trainer.max_tokens=null"]
    path = write_sweep(
        base=[*base, f"trainer.batch_tokens={BATCH}"],
        space={
            "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "schedule.decay_fraction": {"low": 0.2, "high": 0.5},
        },
        constraints={"val/general/forgetting": {"max": 0.25}},
        search={"name": "trunk", "rungs": len(STEPS_OF_RUNGS), "startup_trials": 6, "max_attempts": 100},
        budget={"tokens": 8 * whole},
        launcher={"name": "local", "workers": 6},
    )
    sweep = load_sweep(str(path), [])
    outcome = simulate(sweep, annealed, workers=6, seed=seed, faults=FAULTS, tokens_per_second=100.0, keep=tmp_path / "kept")
    assert min(outcome.happened[what] for what in ("preempted", "killed", "crashed")) > 0
    assert outcome.overshoot == {"tokens": 0.0}
    assert outcome.tokens > 6 * whole
    assert (outcome.lost, outcome.faulty) == (0, ())
    study = load_study(StudyDirectory(tmp_path / "kept"))
    assert study.confirmation is not None, "its budget held it"
    assert len(study.paid_for) == len(study.confirmation.plan.runs) == study.confirmation.ended
    runs = study.runs
    assert [run.number for run in runs] == list(range(len(runs)))
    promoted = [(run, runs[run.trial.parent]) for run in runs if run.trial and run.trial.parent is not None]
    assert promoted
    for run, parent in promoted:
        assert parent.state == "complete"
        assert run.trial
        assert parent.trial
        assert (run.trial.rung or 0) >= (parent.trial.rung or 0)
        assert run.config["trainer"]["max_steps"] == STEPS_OF_RUNGS[run.trial.rung or 0]
        assert _without_length_and_decay(run.config) == _without_length_and_decay(parent.config)
        assert run.trial.given == {key: run.params[key] for key in ("optim.lr", "schedule.decay_fraction")}


def _without_length_and_decay(config: dict[str, Any]) -> dict[str, Any]:
    """What a trial that goes on along a trunk must have like its parent: all but its length, and where it begins to decay."""
    schedule = {key: value for key, value in config["schedule"].items() if key != "decay_fraction"}
    trainer = {key: value for key, value in config["trainer"].items() if key != "max_steps"}
    return {**config, "schedule": schedule, "trainer": trainer}


STORIES = Path(__file__).parents[3] / "benchmarks" / "tables" / "stories260k.csv"


@pytest.mark.slow
def test_a_trunk_search_keeps_its_budget_whatever_happens_and_charges_runs_without_trunks_in_full(
    write_sweep: WriteSweep, tmp_path: Path
) -> None:
    whole = 108 * 1024
    base = ["trainer.max_steps=108", "trainer.max_tokens=null", "trainer.batch_tokens=1024", "data.context_length=128", "schedule.warmup=4"]
    base += ["model.max_context=128"]
    space = {
        "optim.lr": {"low": 1e-3, "high": 3e-2, "log": True},
        "data.replay_share": {"low": 0.0, "high": 0.25},
        "schedule": {"choices": ["wsd", "cosine"]},
        "schedule.decay_fraction": {"low": 0.2, "high": 0.5, "when": {"schedule": "wsd"}},
    }
    sweep = load_sweep(
        str(
            write_sweep(
                base=base,
                space=space,
                constraints={"val/general/forgetting": {"max": 2.0}},
                search={"name": "trunk", "startup_trials": 8, "max_attempts": 100, "confirm": False},
                budget={"tokens": 7 * whole},
                launcher={"name": "local", "workers": 4},
            )
        ),
        [],
    )
    path = tmp_path / "stories.csv"
    path.write_text(STORIES.read_text().replace("val/target/loss", "val/domain/loss", 1))
    table = read_table(path)
    faults = Faults(preempted=0.1, killed=0.1, absence_seconds=1.0)
    outcome = simulate(sweep, table, workers=4, seed=0, faults=faults, tokens_per_second=1e4, keep=tmp_path / "kept")
    assert outcome.overshoot == {"tokens": 0.0}
    assert 6 * whole < outcome.tokens <= 7 * whole
    assert (outcome.lost, outcome.faulty) == (0, ())
    runs = load_study(StudyDirectory(tmp_path / "kept")).runs
    complete = [(run, run.trial) for run in runs if run.state == "complete" and run.trial]
    assert {trial.rung for _, trial in complete} == {0, 1, 2}
    cosine = [run.result.tokens for run, _ in complete if run.params["schedule"] == "cosine"]
    assert cosine
    assert {tokens.shared for tokens in cosine} == {0}
    branches = [run.result.tokens for run, trial in complete if trial.parent is not None and run.params["schedule"] == "wsd"]
    assert branches
    assert all(tokens.shared > 0 for tokens in branches)
    assert outcome.best is not None
    winner = next(trial for _, trial in complete if trial.number == outcome.best.number)
    assert winner.rung == 2, "short runs are no candidates"


def test_results_alone_answer_a_search_that_stops_nothing_and_no_other(write_sweep: WriteSweep, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("optim.lr,step,val/domain/loss\n" + "".join(f"{lr},{STEPS},{2 + lr}\n" for lr in (1e-3, 1e-2)))
    base = [f"trainer.max_steps={STEPS}", "trainer.max_tokens=null", f"trainer.batch_tokens={BATCH}", "trainer.evaluate_every_steps=10"]
    file = write_sweep(base=base, space={"optim.lr": {"low": 1e-3, "high": 1e-2, "log": True}}, budget={"trials": 3})
    whole = simulate(load_sweep(str(file), []), read_table(path), workers=2, seed=0, faults=Faults(), tokens_per_second=1e5)
    assert whole.states == {"complete": 3}
    stopped = load_sweep(str(file), ["stopping=hyperband"])
    with pytest.raises(InputError, match=r"no value after 25\.0% of the run"):
        simulate(stopped, read_table(path), workers=2, seed=0, faults=Faults(), tokens_per_second=1e5)
