"""What holds of either storage: the lock and the signs of life end with the process, records are whole, and nothing tells a password."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory
from harness.search.open_study import open_study
from harness.search.storage import journal, postgresql
from harness.search.storage.address import without_password
from harness.search.storage.build import open_storage
from harness.search.storage.contract import StorageLostError
from harness.search.study import Claim, Study
from harness.search.workers import living_workers
from tests.search.conftest import BOTH_STORAGES, MakeSweep
from tests.search.studies import Attempt, check_in_step
from tests.support.postgresql_server import Server, server

HOLDER = """
import sys, time
from pathlib import Path
from harness.runs.directory import StudyDirectory
from harness.search.storage.build import open_storage
storage = open_storage(StudyDirectory(Path(sys.argv[1])), "holder")
storage.announce("holder")
with storage.locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def directory(make_sweep: MakeSweep) -> StudyDirectory:
    return open_study(make_sweep())


@pytest.fixture
def holder(directory: StudyDirectory) -> Iterator[subprocess.Popen[bytes]]:
    """Another process: a living worker that holds the study's lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, directory.path.resolve()], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@BOTH_STORAGES
def test_lock_and_life_end_with_their_process(directory: StudyDirectory, holder: subprocess.Popen[bytes], storage: str | None) -> None:
    mine = open_storage(directory, "me")
    assert mine.living(["holder", "nobody"]) == {"holder"}
    with (
        mock.patch.object(journal, "LOCK_SECONDS", 0.2),
        mock.patch.dict(postgresql.SETTINGS, lock_timeout="200ms"),
    ):
        impatient = open_storage(directory, "impatient")
        said = "harness holder" if storage else r"\.study\.lock has been held by another process"
        with pytest.raises(TimeoutError, match=said), impatient.locked():
            pass
        impatient.close()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    began = time.monotonic()
    with mine.locked():
        pass
    assert time.monotonic() - began < 5
    deadline = time.monotonic() + 5
    while mine.living(["holder"]):
        assert time.monotonic() < deadline
    mine.close()


@BOTH_STORAGES
def test_a_worker_of_another_machine_is_seen_where_the_storage_can_tell(directory: StudyDirectory, storage: str | None) -> None:
    from harness.runs.files import write_json

    one = open_storage(directory, "far-1-a")
    one.announce("far-1-a")
    write_json(directory.workers / "far-1-a.json", {"id": "far-1-a", "pid": 1, "host": "far", "started": 0.0})
    one._announced.release()  # type: ignore[union-attr]  # as on a file system whose locks do not cross machines
    assert [card["id"] for card in living_workers(directory)] == (["far-1-a"] if storage else [])
    one.close()
    assert living_workers(directory) == []


@BOTH_STORAGES
def test_what_a_dying_process_did_not_flush_never_was(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 2})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")

    def begin_and_die() -> None:
        with study.storage.locked():
            study._optuna.ask()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin_and_die()
    again = Study(directory, sweep, "again")
    claim = again.claim()
    assert isinstance(claim, Claim)
    assert claim.number == 0
    again.settle(claim, Attempt(claim.run).complete())
    check_in_step(directory, ended=True)


def test_the_record_is_not_changed_without_the_lock(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    study = Study(open_study(sweep), sweep, "w")
    with pytest.raises(AssertionError, match="under its lock alone"):
        study._optuna.ask()


@pytest.mark.parametrize(
    "tail",
    [b'{"op_code":4,"work', b"\0" * 100, b'{"op_code":4,"work\n', b'{"op_code":4,"worker_id":"x"}', b"\0" * 70_000],
    ids=["half a line", "zeros", "half a line and an end", "a line without its end", "zeros longer than what is looked at first"],
)
def test_a_torn_end_of_the_journal_is_cut_off_and_kept_aside(make_sweep: MakeSweep, tail: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What Optuna does with it: the next entry is appended to the torn line, and from then on nobody can read the journal."""
    sweep = make_sweep(budget={"trials": 3})
    directory = open_study(sweep)
    living = Study(directory, sweep, "living")
    claim = living.claim()
    assert isinstance(claim, Claim)
    with directory.journal.open("ab") as stream:
        stream.write(tail)
    living.settle(claim, Attempt(claim.run).complete())
    assert f"{len(tail)} bytes moved to" in caplog.text
    assert directory.journal.with_name("journal.log.torn").read_bytes() == tail + b"\n"
    with directory.journal.open("ab") as stream:
        stream.write(tail)
    later = Study(directory, sweep, "later")
    claim = later.claim()
    assert isinstance(claim, Claim)
    assert claim.number == 1
    later.settle(claim, Attempt(claim.run).complete())
    check_in_step(directory, ended=True)


# The address.


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("postgresql://ann@db.example:5433/hpo", "postgresql://ann@db.example:5433/hpo"),
        ("postgresql:///hpo?host=/run/postgresql", "postgresql:///hpo?host=/run/postgresql"),
        ("postgresql://ann:se%40cret@db.example/hpo", "postgresql://ann@db.example/hpo"),
        ("postgresql://ann@db.example/hpo?password=se%40cret&sslmode=require", "postgresql://ann@db.example/hpo?sslmode=require"),
        ("postgresql://:se%40cret@db.example/hpo", "postgresql://db.example/hpo"),
    ],
)
def test_a_password_goes_to_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, stored: str
) -> None:
    monkeypatch.setenv("PGPASSWORD", "")
    assert without_password(given) == stored
    said = capsys.readouterr().err
    if given == stored:
        assert said == ""
        return
    assert os.environ["PGPASSWORD"] == "se@cret"
    assert "the password is not stored" in said
    assert "~/.pgpass: db.example:5432:*:" in said
    assert "cret" not in said


@pytest.mark.parametrize("given", ["mysql://u:secret@h/db", "journal", "postgresql://[::1/db", ""])
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(InputError, match=r"storage.*valid: null .* or postgresql://user@host/database") as caught:
        without_password(given)
    assert "secret" not in str(caught.value)


def test_a_database_that_cannot_be_reached_ends_before_anything_is_written(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(storage="postgresql://nobody@127.0.0.1:1/db")
    with pytest.raises(InputError, match=r"^storage=postgresql://nobody@127.0.0.1:1/db: .*refused"):
        open_study(sweep)
    assert not StudyDirectory(Path(os.environ["HARNESS_RUNS"]) / "study").path.exists()


def test_a_missing_driver_is_named(make_sweep: MakeSweep) -> None:
    with (
        mock.patch.dict(sys.modules, {"psycopg": None}),
        pytest.raises(InputError, match=r"needs psycopg; pip install 'harness\[postgresql\]'"),
    ):
        open_study(make_sweep(storage="postgresql://u@h/db"))


# A server that goes away.


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    with server() as one:
        yield one


def test_who_is_cut_off_knows(make_sweep: MakeSweep, own_server: Server) -> None:
    from multiprocessing.connection import wait

    sweep = make_sweep(storage=own_server.address)
    study = Study(open_study(sweep), sweep, "w")
    study.storage.announce("w")
    assert wait(study.storage.sentinels, timeout=0) == []
    assert not study.storage.is_lost()
    own_server.stop(signal.SIGQUIT)
    try:
        assert wait(study.storage.sentinels, timeout=5)
        assert study.storage.is_lost() or study.storage.is_lost()
        with pytest.raises(StorageLostError, match="the connection to PostgreSQL ended"):
            study.claim()
    finally:
        own_server.start()
    again = Study(study.directory, sweep, "again")
    assert isinstance(again.claim(), Claim)


@pytest.mark.parametrize("given", ["", "?require_auth=password"])
def test_a_server_that_asks_for_the_password_itself_is_not_told(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address may be a stranger's: of a study that one is given."""
    monkeypatch.setenv("PGPASSWORD", "hunter2secret")
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:

        def listen() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                while True:
                    (length,) = struct.unpack("!i", connection.recv(4))
                    if connection.recv(length - 4)[:4] not in (struct.pack("!i", 80877103), struct.pack("!i", 80877104)):
                        break
                    connection.sendall(b"N")  # no TLS, no GSSAPI
                connection.sendall(b"R" + struct.pack("!ii", 8, 3))  # your password, as it is
                said.append(connection.recv(100))

        listener = pool.submit(listen)
        address = f"postgresql://bob@127.0.0.1:{server.getsockname()[1]}/x{given}"
        with pytest.raises(InputError, match=r"server requested a cleartext password.*PGREQUIREAUTH"):
            postgresql.PostgreSQL(StudyDirectory(tmp_path), address, "study", "w")
        listener.result(timeout=10)
    assert said == [b""]
