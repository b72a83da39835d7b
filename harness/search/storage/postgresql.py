"""A storage for workers of many machines: Optuna's journal as a table of PostgreSQL, and advisory locks of the session.

The server releases a session's locks when its connection ends. A machine that vanished without a word is missed by TCP keepalives: the
server ends its session after about a minute, and the machine, if it is merely cut off, notices well before that and ends its attempt.
A worker needs one connection. Locks belong to sessions: the address must not be that of a pool that shares them between clients.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory
from harness.search.storage.contract import LOCK_SECONDS, StorageLostError, StudyStorage

if TYPE_CHECKING:
    from psycopg import Connection

    from harness.search.storage.batches import EntryLog

CONNECT_SECONDS = 10
SAFE_AUTHENTICATION = "!password,!md5"
OUR_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
"""We know of a broken connection after 25 s (the last one is in milliseconds)."""
ITS_KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3", "tcp_user_timeout": "60000"}
"""The server knows of it after 60 s."""
SETTINGS = {**ITS_KEEPALIVES, "idle_session_timeout": "0", "lock_timeout": f"{LOCK_SECONDS:.0f}s", "synchronous_commit": "on"}
TABLE = """
CREATE TABLE IF NOT EXISTS harness_journal (
    study text NOT NULL,
    number bigint NOT NULL,  -- of the first entry
    entries text NOT NULL,   -- a JSON array
    PRIMARY KEY (study, number)
)
"""
STUDY_LOCK = 0


class PostgreSQL(StudyStorage):
    """A study in a PostgreSQL database. Raises InputError where it cannot be reached or used."""

    def __init__(self, directory: StudyDirectory, address: str, study: str, worker: str) -> None:
        """study: names it among all studies of the database; worker: what the server's own tables call this session."""
        super().__init__(directory)
        self.address = address
        self._study = study
        self._space = _key(study)
        self._connection = _connect(address, worker)

    def _open_log(self) -> EntryLog:
        return JournalTable(self._connection, self._study)

    def _acquire(self) -> None:
        from psycopg.errors import LockNotAvailable

        try:
            with _lost_with_the_session():
                self._connection.execute("SELECT pg_advisory_lock(%s, %s)", (self._space, STUDY_LOCK))
        except LockNotAvailable:
            raise TimeoutError(
                f"{self.address}: the lock of study {self._study} has been held by {self._holder()} for {LOCK_SECONDS:.0f} s"
            ) from None

    def _release(self) -> None:
        with _lost_with_the_session():
            self._connection.execute("SELECT pg_advisory_unlock(%s, %s)", (self._space, STUDY_LOCK))

    def _holder(self) -> str:
        row = self._connection.execute(
            "SELECT a.application_name, a.client_addr::text, a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.classid = %s AND l.objid = %s AND l.objsubid = 2 AND l.granted",
            (_unsigned(self._space), STUDY_LOCK),
        ).fetchone()
        return f"{row[0] or 'a session'} ({row[1] or 'local'}, server process {row[2]})" if row else "another session"

    def announce(self, worker: str) -> None:
        with _lost_with_the_session():
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (self._space, _key(worker))).fetchone()
        if not (row and row[0]):
            raise RuntimeError(f"{self.address}: another session is worker {worker}")
        super().announce(worker)

    def living(self, workers: Iterable[str]) -> set[str]:
        with _lost_with_the_session():
            rows = self._connection.execute(
                "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                (_unsigned(self._space),),
            ).fetchall()
        held = {row[0] for row in rows}
        return {worker for worker in workers if _unsigned(_key(worker)) in held}

    @property
    def sentinels(self) -> list[int]:
        # The server says nothing between our questions, unless it ends the session.
        return [] if self._connection.closed else [self._connection.fileno()]

    def is_lost(self) -> bool:
        from psycopg import Error
        from psycopg.pq import ConnStatus

        try:
            self._connection.pgconn.consume_input()
        except Error:
            return True
        return self._connection.pgconn.status != ConnStatus.OK

    def close(self) -> None:
        super().close()
        with suppress(StorageLostError), _lost_with_the_session():
            # The server ends the session some time after we have left; others need not wait for that.
            self._connection.execute("SELECT pg_advisory_unlock_all()")
        self._connection.close()


class JournalTable:
    """The entries of one study; a row a batch."""

    def __init__(self, connection: Connection[Any], study: str) -> None:
        self._connection = connection
        self._study = study

    def mend(self) -> None:
        """A row is stored whole or not at all."""

    def read(self, start: int) -> list[dict[str, Any]]:
        with _lost_with_the_session():
            rows = self._connection.execute(
                "SELECT entries FROM harness_journal WHERE study = %s AND number >= %s ORDER BY number", (self._study, start)
            ).fetchall()
        return [entry for (entries,) in rows for entry in json.loads(entries)]

    def append(self, start: int, entries: list[dict[str, Any]]) -> None:
        with _lost_with_the_session():
            self._connection.execute("INSERT INTO harness_journal VALUES (%s, %s, %s)", (self._study, start, json.dumps(entries)))


@contextmanager
def _lost_with_the_session() -> Iterator[None]:
    from psycopg import InterfaceError, OperationalError
    from psycopg.errors import LockNotAvailable

    try:
        yield
    except LockNotAvailable:
        raise
    except (OperationalError, InterfaceError) as error:
        raise StorageLostError(f"the connection to PostgreSQL ended: {str(error).strip()}") from error


def _connect(address: str, worker: str) -> Connection[Any]:
    try:
        import psycopg
    except ImportError:
        raise InputError(f"storage={address}: needs psycopg; pip install 'harness[postgresql]'") from None
    try:
        # autocommit: every statement is a transaction; what must happen together is one statement.
        connection = psycopg.connect(
            address,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            client_encoding="utf8",
            application_name=f"harness {worker}"[:63],
            **{**OUR_KEEPALIVES, **_authentication()},  # type: ignore[arg-type]
        )
        # Only the settings that this version of the server has.
        connection.execute(
            "SELECT set_config(name, wanted.value, false) FROM pg_settings JOIN unnest(%s::text[], %s::text[]) AS wanted(key, value) "
            "ON name = wanted.key",
            (list(SETTINGS), list(SETTINGS.values())),
        )
        row = connection.execute("SELECT to_regclass('harness_journal')").fetchone()
        if row and row[0] is None:
            with connection.transaction():
                # Two that create it at a time would meet in the catalogue.
                connection.execute("SELECT pg_advisory_xact_lock(hashtext('harness_journal'))")
                connection.execute(TABLE)
    except psycopg.Error as error:
        said = str(error).strip().partition("\n")[0]
        hint = f" (PGREQUIREAUTH=password or md5 in your environment allows it: {address} is then told your password)"
        raise InputError(f"storage={address}: {said}{hint if 'authentication method requirement' in said else ''}") from None
    return connection


def _authentication() -> dict[str, str]:
    """What the server may ask for: nothing that tells it a password which it does not know.

    An address may come from a stranger (a study that one is given), and libpq has the user's password for it from ~/.pgpass or PGPASSWORD:
    SCRAM proves it without telling it, cleartext and MD5 give it away. $PGREQUIREAUTH, the user's own, says otherwise.
    """
    from psycopg import pq

    is_known = pq.version() >= 160_000  # an older libpq refuses the option
    return {"require_auth": SAFE_AUTHENTICATION} if is_known and "PGREQUIREAUTH" not in os.environ else {}


def _key(name: str) -> int:
    """A signed 32-bit key for an advisory lock."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big", signed=True)


def _unsigned(key: int) -> int:
    """As the server's table of locks shows it."""
    return key & 0xFFFFFFFF
