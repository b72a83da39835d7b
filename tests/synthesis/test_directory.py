"""Claims on shards, and the ledger of what they cost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.config.synth_schema import SynthBudgetConfig
from harness.synthesis import directory as directory_module
from harness.synthesis.directory import Claim, SynthDirectory
from harness.synthesis.ledger import Ledger, ShardLedger


def go_on() -> bool:
    return False


def once() -> Callable[[], bool]:
    """Looks once, and stops where it would have to wait."""
    looks = iter((False,))
    return lambda: next(looks, True)


def claimed(directory: SynthDirectory, shards: int = 3, *, limit: int = 100) -> Claim:
    with directory.changing() as ledger:
        ledger.limit = limit
    claim = directory.claim(shards, stopping=go_on)
    assert claim is not None
    return claim


def reserve(claim: Claim, tokens: int, *, at_risk: int = 0, stopping: Callable[[], bool] = go_on) -> str:
    return claim.reserve(tokens, at_risk=at_risk, steps=1, stopping=stopping)


def write(claim: Claim, id: str, *, prompt: int = 2, generated: int = 3) -> None:
    claim.directory.append(claim.shard, {"step": "text", "id": id, "text": "x", "finish": "stop", "tokens": [prompt, generated]})


def test_shards_are_claimed_in_order_and_once(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    first, second = claimed(directory, 2), claimed(directory, 2)
    assert (first.shard, second.shard) == (0, 1)
    assert directory.claim(2, stopping=go_on) is None
    second.release()
    again = claimed(directory, 2)
    assert again.shard == 1
    first.finish()
    first.release()
    assert directory.claim(2, stopping=go_on) is None


def test_a_claim_looks_at_each_shard_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, looks = SynthDirectory(tmp_path), 0
    claimed(directory, 200).release()
    with directory.changing() as ledger:
        for shard in range(199):
            ledger.of(shard).go_on(1)  # so that the last one alone may go on
    look = Ledger._look

    def counted(ledger: Ledger, shard: int) -> ShardLedger:
        nonlocal looks
        looks += 1
        return look(ledger, shard)

    monkeypatch.setattr(Ledger, "_look", counted)
    assert claimed(directory, 200).shard == 199
    assert looks < 200 * 10


def test_what_is_reserved_is_settled_by_what_was_written(tmp_path: Path) -> None:
    claim = claimed(SynthDirectory(tmp_path))
    assert reserve(claim, 100, at_risk=40) == "yes"
    assert claim.directory.ledger().reserved == 100
    write(claim, "a")
    claim.settle()
    ledger = claim.directory.ledger()
    assert (ledger.used, ledger.reserved) == (5, 0)
    write(claim, "b")
    claim.settle(lost=40, ended=False)
    assert claim.directory.ledger().used == 50


def test_there_is_no_start_without_room(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    claim = claimed(directory)
    assert reserve(claim, 101) == "no"
    assert directory.ledger().refused == {"shard": 0, "needs": 101, "left": 100, "held_back": 0}
    claim.release()
    assert directory.claim(3, stopping=go_on) is None


def test_shards_of_another_recipe_do_not_make_it_whole() -> None:
    ledger = Ledger()
    for shard in (0, 2, 3):
        ledger.of(shard).done = True
    assert (ledger.is_whole(1), ledger.is_whole(2), ledger.is_whole(3)) == (True, False, False)
    ledger.of(1).done = True
    assert ledger.is_whole(3)


def test_nothing_is_begun_with_what_is_held_back(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    claim = claimed(directory)
    with directory.changing() as ledger:
        ledger.keep_to(SynthBudgetConfig(tokens=100, held_back=0.1))
    assert reserve(claim, 91) == "no"
    assert directory.ledger().refused == {"shard": 0, "needs": 91, "left": 100, "held_back": 10}
    with directory.changing() as ledger:
        ledger.refused = None
    assert reserve(claim, 90) == "yes"


def test_who_is_at_work_keeps_to_another_limit(tmp_path: Path) -> None:
    claim = claimed(SynthDirectory(tmp_path))
    with claim.directory.changing() as ledger:
        ledger.limit = 50
    assert reserve(claim, 60) == "no"
    with claim.directory.changing() as ledger:
        ledger.limit = ledger.refused = None
    assert reserve(claim, 10**9) == "yes"


def test_what_comes_later_begins_when_it_is_known_what_others_took(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    first, second = claimed(directory), claimed(directory)
    assert reserve(first, 90, at_risk=10) == "yes"
    assert reserve(second, 20) == "later"  # 90 + 20 might be too much
    second.release()
    looks = 0

    def ended_meanwhile() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            assert directory.ledger().refused is None
            write(first, "a")
            first.settle()
            first.finish()
            first.release()
        return False

    again = directory.claim(3, stopping=ended_meanwhile)
    assert again is not None
    assert (again.shard, looks) == (1, 2)
    assert reserve(again, 96) == "no"  # 5 of 100 are spent
    with directory.changing() as ledger:
        ledger.refused = None
    assert reserve(again, 95) == "yes"


def test_turns_are_taken_in_order(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    first, second = claimed(directory), claimed(directory)
    assert reserve(second, 20, stopping=once()) == "no"  # it waits
    assert directory.ledger().refused is None
    first.release()  # killed, say
    assert reserve(second, 20) == "later"
    first = claimed(directory)
    assert (first.shard, reserve(first, 20), reserve(second, 20)) == (0, "yes", "yes")


def test_a_shard_before_the_wave_that_lacks_something_is_gone_on_with(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    first = claimed(directory)
    assert reserve(first, 90) == "yes"
    second = claimed(directory)
    assert reserve(second, 90) == "later"
    second.release()
    first.settle()
    first.finish()
    first.release()
    assert claimed(directory).shard == 1  # in a wave that begins with it
    with directory.changing() as ledger:
        for shard in (1, 2):
            ledger.of(shard).done = True
        ledger.of(0).done = False
    assert claimed(directory).shard == 0


def test_what_a_killed_worker_had_under_way_counts(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    killed = claimed(directory, limit=200)
    assert reserve(killed, 100, at_risk=40) == "yes"
    write(killed, "a")
    with directory.shard_file(0).open("ab") as stream:
        stream.write(b'{"step": "text", "id": "b", "te')  # torn
    killed.release()  # as the kernel does for it
    again = claimed(directory)
    ledger = directory.ledger()
    assert (again.shard, ledger.used, ledger.reserved) == (0, 5 + 40, 0)
    assert list(directory.records(0)) == [("text", "a")]
    write(again, "b")
    assert list(directory.records(0)) == [("text", "a"), ("text", "b")]


def test_where_more_is_lost_than_was_held_back_the_budget_is_still_hard(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    killed, other = claimed(directory), claimed(directory)
    assert reserve(killed, 60, at_risk=30) == "yes"
    killed.release()
    assert reserve(other, 40) == "yes"  # what the killed one had reserved is settled by who needs the room
    assert directory.ledger().of(0).lost == 30
    again = claimed(directory)
    assert (again.shard, reserve(again, 60, stopping=once())) == (0, "no")  # 30 + 40 + 60: it waits for the other
    assert directory.ledger().refused is None
    write(other, "a", prompt=10, generated=30)
    other.settle()
    assert reserve(again, 60) == "no"
    assert directory.ledger().refused == {"shard": 0, "needs": 60, "left": 30, "held_back": 0}


@pytest.mark.parametrize("again", [Ledger.begin_again, lambda ledger: ledger.keep_to(SynthBudgetConfig())])
def test_what_a_wave_that_was_given_up_admitted_is_admitted_again(tmp_path: Path, again: Callable[[Ledger], None]) -> None:
    directory = SynthDirectory(tmp_path)
    killed = claimed(directory, 2)
    assert reserve(killed, 60) == "yes"
    killed.release()
    with directory.changing() as ledger:
        again(ledger)
    first, second = claimed(directory, 2), claimed(directory, 2)
    assert reserve(second, 60, stopping=once()) == "no"  # it waits for the first
    assert (reserve(first, 60), reserve(second, 60)) == ("yes", "later")


@dataclass
class Chance:
    """A data set of two phases by workers that take their steps in any order, and are killed at any."""

    directory: SynthDirectory
    costs: list[list[tuple[int, int]]]
    """By shard and phase: what it can take at most, and what it takes."""
    chance: random.Random
    kills: int

    def run(self, workers: int) -> set[tuple[int, int]]:
        """What was written, by shard and phase."""
        claims: list[Claim | None] = [None] * workers
        writing, lost = [False] * workers, 0
        while True:
            worker = self.chance.randrange(workers)
            claim = claims[worker]
            if claim is None:
                claims[worker] = self.directory.claim(len(self.costs), stopping=once())
                if claims == [None] * workers and (self._ledger.refused or self._ledger.is_whole(len(self.costs))):
                    return {(shard, phase) for shard in range(len(self.costs)) for phase in range(self._written(shard))}
                continue
            phase = self._written(claim.shard)
            if writing[worker] and lost < self.kills and self.chance.random() < 0.2:
                writing[worker], lost = False, lost + 1
                claims[worker] = claim.release()
            elif writing[worker]:
                write(claim, str(phase), prompt=0, generated=self.costs[claim.shard][phase][1])
                claim.settle()
                writing[worker] = False
            elif phase == 2:
                claim.finish()
                claims[worker] = claim.release()
            elif not claim.begin_phase(phase):
                claims[worker] = claim.release()
            else:
                most = self.costs[claim.shard][phase][0]
                answer = claim.reserve(most, at_risk=5, steps=2, stopping=once())
                writing[worker] = answer == "yes"
                if answer != "yes":
                    claims[worker] = claim.release()
            assert self._ledger.limit is not None
            assert self._ledger.used + self._ledger.reserved <= self._ledger.limit

    def _written(self, shard: int) -> int:
        return len(self.directory.records(shard))

    @property
    def _ledger(self) -> Ledger:
        return self.directory.ledger()


@pytest.mark.slow
def test_which_rows_a_budget_holds_does_not_depend_on_who_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr("os.fsync", lambda handle: None)  # thousands of them
    counts = set()
    for case in range(6):
        chance = random.Random(case)
        costs = [[(most, chance.randint(0, most)) for most in (chance.randint(5, 40), chance.randint(5, 40))] for _ in range(8)]
        budget = SynthBudgetConfig(tokens=chance.randint(50, 180) + 20, held_back=0.0)
        found = []
        for workers, kills in ((1, 0), (4, 4)):
            directory = SynthDirectory(tmp_path / f"{case}-{workers}")
            directory.path.mkdir()
            with directory.changing() as ledger:
                ledger.keep_to(budget)
                ledger.held_back = 20  # four kills lose 5 each
            found.append(Chance(directory, costs, chance, kills).run(workers))
        assert found[1:] == [found[0]]
        counts.add(len(found[0]))
    assert len(counts) > 3  # budgets that hold nothing, a part, or all
