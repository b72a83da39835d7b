"""The framing of the client's log."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.tracking.pieces import pieces_of
from harness.tracking.transaction_log import BLOCK_BYTES, FILE_HEADER, NoLogError, log_of, whole_records
from tests.tracking.attempts import attempt, forked

records_of_any_size = st.lists(st.integers(0, 3 * BLOCK_BYTES).map(lambda size: bytes(index % 251 for index in range(size))), max_size=6)


@given(records_of_any_size)
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read(records: list[bytes]) -> None:
    assert list(whole_records(log_of(records))) == records


@given(records_of_any_size, st.data())
@settings(max_examples=100, deadline=None)
def test_a_log_torn_at_any_byte_gives_the_records_before_the_tear(records: list[bytes], data: st.DataObject) -> None:
    log = log_of(records)
    kept = data.draw(st.integers(len(FILE_HEADER), len(log)))
    found = list(whole_records(log[:kept]))
    assert found == records[: len(found)]
    assert len(log_of(found)) <= kept
    if len(found) < len(records):
        assert len(log_of(records[: len(found) + 1])) > kept


@given(records_of_any_size.filter(any), st.data())
@settings(max_examples=100, deadline=None)
def test_nothing_from_a_damaged_record_on_is_believed(records: list[bytes], data: st.DataObject) -> None:
    log = bytearray(log_of(records))
    position = data.draw(st.integers(len(FILE_HEADER), len(log) - 1))
    log[position] ^= data.draw(st.integers(1, 255))
    found = list(whole_records(bytes(log)))
    assert found == records[: len(found)]


@pytest.mark.parametrize("content", [b"", b":W&", b"\0" * 100, b"PK\x03\x04 something else"])
def test_what_is_no_log_is_refused(content: bytes) -> None:
    with pytest.raises(NoLogError):
        list(whole_records(content))


def test_the_clients_own_log_is_read_and_written_as_it_was(tmp_path: Path, environment: dict[str, str]) -> None:
    rows: dict[int, dict[str, float | None]] = {step: {f"metric/{index}": step / (index + 1) for index in range(40)} for step in range(60)}
    forked(attempt, tmp_path, {**environment, "WANDB_MODE": "offline"}, rows)
    [piece] = pieces_of(tmp_path)
    content = piece.log.read_bytes()
    assert len(content) > 2 * BLOCK_BYTES, "it crosses blocks"
    assert log_of(whole_records(content)) == content
