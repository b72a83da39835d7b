"""When trials fail for a reason that is not in their values, no further one starts."""

from __future__ import annotations

from collections.abc import Collection

from harness.config.errors import InputError
from harness.runs.failure_kind import kind_of_failure
from harness.search.trial_index import TrialIndex

IN_A_ROW = 30
"""So many times search.max_failures is a row of alike failures that ends a study in which trials are complete: of a space of which one
point in thirty is valid, 1 row of 20 would be so long by chance."""


def refuse_repeated_failures(index: TrialIndex, max_failures: int, before: Collection[int | None]) -> None:
    """Raise InputError when trials fail alike and none is complete, or in a long row. before: those that had failed when the worker began,
    which do not count."""
    complete, allowed = index.last_complete, max_failures
    failed = [record for record in index.failed() if record.number not in before]
    if complete is not None:
        allowed *= IN_A_ROW
        failed = [record for record in failed if (record.number or 0) > complete]
    if any(record.result.state == "complete" for record in index.under_way()):
        return  # it has not been judged yet
    kinds = {record.number: kind_of_failure(record.result.reason or "") for record in failed}
    for kind in set(kinds.values()):
        alike = [record for record in failed if kinds[record.number] == kind]
        if len(alike) >= allowed:
            some = [str(record.number) for record in alike[-5:]]
            which = ", ".join(some) + (f" and {len(alike) - len(some)} before them" if len(alike) > len(some) else "")
            none = "none is complete" if complete is None else f"none is complete since trial {complete}"
            raise InputError(
                f"trials {which} failed alike and {none}, so no further one starts "
                f"(search.max_failures={max_failures}): {alike[-1].result.reason}"
            )
