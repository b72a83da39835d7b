"""Making a study's directory: the sweep is frozen at launch, and a second sweep under the same name must be the same."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.writable import check_writable
from harness.runs.directory import StudyDirectory, runs_root
from harness.runs.files import read_yaml, write_yaml
from harness.search.confirm import refuse_foreign
from harness.search.reserve import confirms_itself
from harness.search.storage.build import connect
from harness.search.sweep import Sweep, differences


def open_study(sweep: Sweep) -> StudyDirectory:
    """The directory of the sweep's study: a new one with the sweep frozen in it, or the one that exists, if its sweep is this one.

    Budget and launcher may change from start to start; the latest are kept. A stop request that stands is withdrawn.
    Raises InputError that says what differs, or that the directory cannot be written, or the storage be used.
    """
    directory, kept = _launched(sweep)
    launched: str = kept["launched"] if kept else datetime.now(UTC).isoformat(timespec="milliseconds")
    # Before anything is written: a database that cannot be reached or used ends here.
    connect(directory, sweep.config.storage, launched).close()
    check_writable(directory.path, "study directory")
    header = "# Frozen at launch; read by every worker.\n"
    confirms = confirms_itself(sweep)
    if confirms:
        refuse_foreign(directory, launched)
    frozen = {**sweep.frozen(), "confirms_itself": confirms, "directory": str(Path.cwd()), **(kept or {}), "launched": launched}
    write_yaml(directory.sweep, frozen, header=header)
    directory.stop_request.unlink(missing_ok=True)
    return directory


def want_workers(directory: StudyDirectory, wanted: int) -> None:
    """Set how many workers the study should have: `harness status` and the next start go by it."""
    frozen = read_yaml(directory.sweep)
    header = "".join(line for line in directory.sweep.read_text("utf-8").splitlines(keepends=True)[:1] if line.startswith("#"))
    write_yaml(directory.sweep, {**frozen, "launcher": {**frozen["launcher"], "workers": wanted}}, header=header)


def refuse_other_sweep(sweep: Sweep) -> None:
    """Raise InputError where a study of this name was launched with another sweep; nothing is written."""
    _launched(sweep)


def _launched(sweep: Sweep) -> tuple[StudyDirectory, dict[str, Any] | None]:
    """The directory of the sweep's study, and what stays as it was at its launch: None for a new one."""
    directory = StudyDirectory(runs_root() / sweep.name)
    if directory.path.exists() and not directory.sweep.exists() and any(directory.path.iterdir()):
        raise InputError(f"{directory.path}: exists, and is no study (no sweep.yaml in it)")
    if not directory.sweep.exists():
        return directory, None
    frozen = read_yaml(directory.sweep)
    changed = differences(frozen, sweep)
    if changed:
        raise InputError(
            f"study {sweep.name!r} was launched with another sweep; give this one a name of its own (--name), or "
            f"`harness resume {directory.name}`, which goes on with that one:\n" + "\n".join(changed)
        )
    return directory, {key: frozen[key] for key in ("launched", "start", "directory") if key in frozen}
