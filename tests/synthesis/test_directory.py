"""Claims on shards, and the ledger of what they cost."""

from __future__ import annotations

from pathlib import Path

from harness.synthesis.directory import Claim, SynthDirectory


def go_on() -> bool:
    return False


def claimed(directory: SynthDirectory, shards: int = 3, *, limit: int = 100) -> Claim:
    with directory.changing() as ledger:
        ledger.limit = limit
    claim = directory.claim(shards)
    assert claim is not None
    return claim


def write(claim: Claim, id: str, *, prompt: int = 2, generated: int = 3) -> None:
    claim.directory.append(claim.shard, {"step": "text", "id": id, "text": "x", "finish": "stop", "tokens": [prompt, generated]})


def test_shards_are_claimed_in_order_and_once(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    first, second = claimed(directory, 2), claimed(directory, 2)
    assert (first.shard, second.shard) == (0, 1)
    assert directory.claim(2) is None
    second.release()
    again = claimed(directory, 2)
    assert again.shard == 1
    first.finish()
    first.release()
    assert directory.claim(2) is None


def test_what_is_reserved_is_settled_by_what_was_written(tmp_path: Path) -> None:
    claim = claimed(SynthDirectory(tmp_path))
    assert claim.reserve(100, at_risk=40, stopping=go_on)
    assert claim.directory.ledger().reserved == 100
    write(claim, "a")
    claim.settle()
    ledger = claim.directory.ledger()
    assert (ledger.used, ledger.reserved) == (5, 0)
    write(claim, "b")
    claim.settle(lost=40)
    assert claim.directory.ledger().used == 50


def test_there_is_no_start_without_room(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    claim = claimed(directory)
    assert not claim.reserve(101, at_risk=0, stopping=go_on)
    assert directory.ledger().refused == {"shard": 0, "needs": 101, "left": 100}
    claim.release()
    assert directory.claim(3) is None


def test_who_is_at_work_keeps_to_another_limit(tmp_path: Path) -> None:
    claim = claimed(SynthDirectory(tmp_path))
    with claim.directory.changing() as ledger:
        ledger.limit = 50
    assert not claim.reserve(60, at_risk=0, stopping=go_on)
    with claim.directory.changing() as ledger:
        ledger.limit = None
    assert claim.reserve(10**9, at_risk=0, stopping=go_on)


def test_it_waits_for_others_that_may_need_less(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    first, second = claimed(directory), claimed(directory)
    assert first.reserve(90, at_risk=10, stopping=go_on)
    asked = 0

    def settled_meanwhile() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            assert directory.ledger().refused is None
            first.settle()
        return False

    assert second.reserve(20, at_risk=0, stopping=settled_meanwhile)
    assert directory.ledger().reserved == 20
    assert not claimed(directory).reserve(90, at_risk=0, stopping=lambda: True)


def test_what_a_killed_worker_had_under_way_counts(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    killed = claimed(directory, limit=200)
    assert killed.reserve(100, at_risk=40, stopping=go_on)
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


def test_others_settle_for_the_killed_where_they_need_the_room(tmp_path: Path) -> None:
    directory = SynthDirectory(tmp_path)
    killed, other = claimed(directory), claimed(directory)
    assert killed.reserve(90, at_risk=10, stopping=go_on)
    killed.release()
    assert other.reserve(80, at_risk=0, stopping=go_on)
    assert directory.ledger().of(0).lost == 10
