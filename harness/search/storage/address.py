"""`storage` of a sweep: what may stand there. Passwords go no further than this."""

from __future__ import annotations

import os
import sys
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from harness.config.errors import InputError

SCHEMES = ("postgresql", "postgres")
VALID = "valid: null (the study directory's journal.log) or postgresql://user@host/database"


def without_password(address: str) -> str:
    """The address as it may be stored and shown. Raises InputError for one that is none.

    A password in it is handed to this command and its workers as PGPASSWORD, as libpq reads it, and a line on stderr says so.
    """
    try:
        parts = urlsplit(address)
        hostname = parts.hostname or ""
    except ValueError as error:
        raise InputError(f"storage: {error}; {VALID}") from None
    if parts.scheme not in SCHEMES:
        raise InputError(f"storage={parts.scheme + '://…' if parts.scheme else address}: {VALID}")
    query = dict(parse_qsl(parts.query))
    passwords = [query.pop("password", None), unquote(parts.password) if parts.password else None]
    password = next((given for given in passwords if given), None)
    if password is None and parts.password is None:
        return address
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    place = parts.netloc.rpartition("@")[2]
    safe = urlunsplit(parts._replace(netloc=f"{user}@{place}" if user else place, query=urlencode(query)))
    if password:
        os.environ["PGPASSWORD"] = password
        print(
            f"storage: the password is not stored; only this command's own workers have it. For others put a line into ~/.pgpass: "
            f"{hostname or '*'}:{parts.port or 5432}:*:{unquote(user) or '*'}:PASSWORD",
            file=sys.stderr,
        )
    return safe
