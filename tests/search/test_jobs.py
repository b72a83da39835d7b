"""Workers in jobs of a cluster: whose trial is taken over when, and what it costs the trial."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from harness.runs.place import JobOutcome, Place
from harness.runs.trial import read_trial
from harness.search.job_lookup import ASK_SECONDS, PATIENCE_SECONDS, JobLookup
from harness.search.open_study import open_study
from harness.search.study import Study
from harness.search.time_left import SAVE_SECONDS, TimeLeft
from harness.search.workers import living_workers
from tests.search.conftest import MakeSweep
from tests.search.studies import Attempt, alive, check_in_step
from tests.search.test_study import claimed


class Cluster:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.outcomes: dict[str, JobOutcome] = {}
        self.answers = True
        self.asked: list[list[str]] = []

    def ask(self, places: Sequence[Place]) -> dict[Place, JobOutcome] | None:
        self.asked.append([place.job or "" for place in places])
        return {place: self.outcomes[place.job or ""] for place in places} if self.answers else None

    def job_lookup(self, own: Place | None = None) -> JobLookup:
        return JobLookup(self.ask, own=own, clock=lambda: self.now)


def place(job: str | None, restart: int = 0) -> Place:
    return Place(node="node1", job=job, restart=restart)


def test_a_trial_is_taken_over_only_when_the_cluster_says_that_its_job_is_over(make_sweep: MakeSweep) -> None:
    sweep, cluster = make_sweep(budget={"trials": 1}, search={"max_attempts": 1}), Cluster()
    directory = open_study(sweep)
    gone = Study(directory, sweep, "gone", place=place("5_0"))
    claim = claimed(gone)
    assert gone.prepare(claim)
    Attempt(claim.run).vanish(100)
    job_lookup = cluster.job_lookup()
    other = Study(directory, sweep, "other", place=place("5_1"), job_lookup=job_lookup)
    cluster.outcomes["5_0"] = "alive"
    for _ in range(3):
        assert other.claim() == "wait"
        job_lookup.ask()
        cluster.now += ASK_SECONDS
    assert cluster.asked == [["5_0"]] * 3
    cluster.outcomes["5_0"] = "interrupted"
    assert other.claim() == "wait"
    job_lookup.ask()
    again = claimed(other)
    assert again.number == 0
    trial = read_trial(again.run)
    assert trial is not None
    assert [claim.place.job for claim in trial.claims] == ["5_0", "5_1"]
    result = check_in_step(directory).runs[0].result
    assert (result.failures, result.reason) == (0, "its job was interrupted"), "with max_attempts=1 it would have failed"
    assert result.tokens.trained >= 100, "what it had trained is booked"


def test_a_worker_takes_over_from_an_earlier_one_of_its_own_job_though_the_cluster_says_that_it_runs(make_sweep: MakeSweep) -> None:
    """A controller that was killed may forget that it started a job, and start it once more, as often restarted as before."""
    sweep, cluster = make_sweep(budget={"trials": 1}, search={"max_attempts": 1}), Cluster()
    directory = open_study(sweep)
    gone = Study(directory, sweep, "gone", place=place("5_0"))
    claim = claimed(gone)
    assert gone.prepare(claim)
    Attempt(claim.run).vanish(100)
    cluster.outcomes["5_0"] = "alive"
    own = Place(node="node2", job="5_0")
    again = claimed(Study(directory, sweep, "next", place=own, job_lookup=cluster.job_lookup(own)))
    assert again.number == 0
    result = check_in_step(directory).runs[0].result
    assert (result.failures, result.reason) == (0, "its job was interrupted")


def test_a_job_that_ran_out_of_memory_fails_its_trial(make_sweep: MakeSweep) -> None:
    sweep, cluster = make_sweep(budget={"trials": 1}), Cluster()
    directory = open_study(sweep)
    gone = Study(directory, sweep, "gone", place=place("5_0"))
    claim = claimed(gone)
    assert gone.prepare(claim)
    Attempt(claim.run).vanish(100)
    job_lookup = cluster.job_lookup()
    other = Study(directory, sweep, "other", job_lookup=job_lookup)
    cluster.outcomes["5_0"] = "out_of_memory"
    assert other.claim() == "wait"
    job_lookup.ask()
    assert other.claim() == "done"
    assert check_in_step(directory, ended=True).runs[0].result.reason == "out of memory"


def test_a_cluster_that_does_not_answer_is_waited_for_but_not_for_ever(make_sweep: MakeSweep) -> None:
    sweep, cluster = make_sweep(budget={"trials": 1}), Cluster()
    directory = open_study(sweep)
    claimed(Study(directory, sweep, "gone", place=place("5_0")))
    cluster.answers = False
    job_lookup = cluster.job_lookup()
    other = Study(directory, sweep, "other", job_lookup=job_lookup)
    while cluster.now <= PATIENCE_SECONDS:
        assert other.claim() == "wait"
        job_lookup.ask()
        cluster.now += 100.0
    assert claimed(other).number == 0


def test_all_jobs_are_asked_after_with_one_question(make_sweep: MakeSweep) -> None:
    sweep, cluster = make_sweep(budget={"trials": 3}), Cluster()
    directory = open_study(sweep)
    with ExitStack() as living:
        for number in range(3):
            living.enter_context(alive(directory, f"w{number}"))
            claimed(Study(directory, sweep, f"w{number}", place=place(f"5_{number}")))
    assert cluster.asked == []
    job_lookup = cluster.job_lookup()
    other = Study(directory, sweep, "other", job_lookup=job_lookup)
    assert living_workers(directory) == []
    assert other.claim() == "wait"
    cluster.outcomes = {f"5_{number}": "ended" for number in range(3)}
    job_lookup.ask()
    assert len(cluster.asked) == 1


def test_a_requeued_job_takes_back_its_own_trial_first(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 3})
    directory = open_study(sweep)
    with ExitStack() as living:
        workers = [Study(directory, sweep, f"w{number}", place=place(f"5_{number}")) for number in range(3)]
        for worker in workers:
            living.enter_context(alive(directory, worker.worker))
        claims = [claimed(worker) for worker in workers]
        assert [claim.number for claim in claims] == [0, 1, 2]
        for worker, claim in zip(workers, claims, strict=True):
            worker.settle(claim, Attempt(claim.run).stop(10))
    assert claimed(Study(directory, sweep, "again", place=place("5_2", restart=1))).number == 2
    assert claimed(Study(directory, sweep, "elsewhere", place=place("6_0"))).number == 0


def test_a_worker_leaves_when_its_time_does_not_hold_the_way_to_a_checkpoint(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    study = Study(open_study(sweep), sweep, "w")
    claim = claimed(study)
    assert study.prepare(claim)
    tokens, every = sweep.base.config.trainer.batch_tokens, 10
    claim.run.config.write_text(claim.run.config.read_text().replace("checkpoint_every_steps: null", f"checkpoint_every_steps: {every}"))
    now = [0.0]
    left = TimeLeft(1000.0, clock=lambda: now[0])
    left.watch(claim.run)
    assert left.holds_an_interval, "nothing is known of the pace yet"
    claim.run.metrics.append({"step": 1, "tokens": tokens, "tokens_per_second": tokens / 5.0})  # 5 s a step
    left.watch(claim.run)
    for now[0], holds, over in (
        (900.0, True, False),
        (1000.0 - SAVE_SECONDS - 49.0, False, False),
        (1000.0 - SAVE_SECONDS - 4.9, False, True),
    ):
        assert (left.holds_an_interval, left.is_over) == (holds, over)
    assert not TimeLeft(None).is_over
    assert TimeLeft(None).holds_an_interval
