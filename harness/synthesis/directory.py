"""A data set on disk while it is made, and afterwards: its recipe, what teachers wrote, what was spent, and what was kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from harness.config.documents import DamagedError, typed
from harness.runs.files import append_json_line, read_json, read_json_lines, read_yaml, write_json
from harness.runs.locks import hold, is_held
from harness.synthesis.ledger import Ledger, Place, ShardLedger

Record = dict[str, Any]
LOCK_SECONDS = 60.0
POLL_SECONDS = 0.2
Reserved = Literal["yes", "later", "no"]


@dataclass
class _Written:
    """What readers rely on in a line of a shard: a text, a score, or why there is none."""

    step: str
    id: str
    text: str = ""
    finish: str = ""
    score: float = 0.0
    error: str = ""
    tokens: tuple[int, int] = (0, 0)


@dataclass
class _Budget:
    tokens: int | None


@dataclass
class _Recipe:
    budget: _Budget


@dataclass
class _Begun:
    """What readers rely on in recipe.yaml; who goes on with it checks the recipe itself."""

    name: str
    recipe: _Recipe
    seeds: dict[str, Any]
    teachers: dict[str, Any]
    steps: dict[str, Any]
    shards: Place
    asks: int


@dataclass
class _Made:
    """What readers rely on in manifest.json."""

    funnel: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    sha256: str | None = None


@dataclass(frozen=True)
class SynthDirectory:
    """Where a data set is made."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        """The recipe as it was resolved, with its templates, and what it was made of: fingerprints of seeds and teachers."""
        return self.path / "recipe.yaml"

    @property
    def stop_request(self) -> Path:
        """Exists while its workers are asked to stop."""
        return self.path / "stop"

    @property
    def making_lock(self) -> Path:
        """Held by the command that makes it."""
        return self.path / ".making.lock"

    @property
    def ledger_file(self) -> Path:
        return self.path / "ledger.json"

    @property
    def manifest(self) -> Path:
        """What was made: the funnel, tokens, fingerprints."""
        return self.path / "manifest.json"

    @property
    def rejected(self) -> Path:
        """Rows that were dropped, each with the rule and the value."""
        return self.path / "rejected.jsonl"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def data(self) -> Path:
        """The rows to train on."""
        return self.dataset / "data.jsonl"

    @property
    def card(self) -> Path:
        """What the data set is, for people."""
        return self.dataset / "README.md"

    def shard_file(self, shard: int) -> Path:
        """What was written for the rows of a shard, a line each, in the order in which it ended."""
        return self.path / "shards" / f"{shard:05d}.jsonl"

    def shard_lock(self, shard: int) -> Path:
        return self.path / "shards" / f".{shard:05d}.lock"

    def records(self, shard: int) -> dict[tuple[str, str], Record]:
        """What was written for a shard, by step and id; a line that a crash tore is left out."""
        return {(row["step"], row["id"]): row for row in self._rows(shard)}

    def _rows(self, shard: int) -> Iterator[Record]:
        """The lines of a shard that are what was written; others, which only damage makes, are as if nothing had been."""
        for row in read_json_lines(self.shard_file(shard)):
            try:
                typed(_Written, row, self.shard_file(shard), strict=True)
            except DamagedError:
                continue
            if "error" in row or "score" in row or ("text" in row and "finish" in row):
                yield row

    def begun(self) -> dict[str, Any]:
        """recipe.yaml. Raises DamagedError and OSError."""
        document = read_yaml(self.recipe)
        typed(_Begun, document, self.recipe, strict=True)
        return document

    def made(self) -> dict[str, Any]:
        """manifest.json; {} before the data set is made. Raises DamagedError."""
        document = read_json(self.manifest) or {}
        typed(_Made, document, self.manifest, strict=True)
        return document

    def append(self, shard: int, record: Record) -> None:
        append_json_line(self.shard_file(shard), record)

    def ledger(self) -> Ledger:
        document = read_json(self.ledger_file)
        return Ledger() if document is None else typed(Ledger, document, self.ledger_file)

    @contextmanager
    def changing(self) -> Iterator[Ledger]:
        """The ledger, under the lock; what the block makes of it is written when it ends."""
        with FileLock(self.path / ".lock", timeout=LOCK_SECONDS):
            ledger = self.ledger()
            yield ledger
            write_json(self.ledger_file, asdict(ledger))

    def is_making(self) -> bool:
        """Whether a command makes it. Workers of jobs are at it without one, see `at_work`."""
        return is_held(self.making_lock)

    def at_work(self, shards: int) -> list[int]:
        """The shards that somebody works on."""
        return [shard for shard in range(shards) if is_held(self.shard_lock(shard))]

    def claim(self, shards: int, *, stopping: Callable[[], bool]) -> Claim | None:
        """The first shard whose turn it is and that nobody works on; where others have to end something before, it waits for them.

        None where all that are not done are worked on, where the budget has no room, or when asked to stop.
        """
        while not stopping():
            with self.changing() as ledger:
                if ledger.refused is not None:
                    return None
                ledger.begin_wave(shards)
                waits, undone = False, ledger.undone(shards)
                going_on = ledger.going_on(undone)
                for shard in undone:
                    if shard not in going_on:
                        waits = waits or not is_held(self.shard_lock(shard))
                    elif (lock := hold(self.shard_lock(shard))) is not None:
                        self._settle_killed(ledger, shard)
                        return Claim(self, shard, lock)
                if not waits:
                    return None
            time.sleep(POLL_SECONDS)
        return None

    def _settle_killed(self, ledger: Ledger, shard: int) -> None:
        """Book what a worker left that was killed: what it wrote, and what was under way."""
        one = ledger.of(shard)
        if one.reserved:
            self._recount(one, shard)
            one.lost += one.at_risk
            one.reserved = one.at_risk = 0

    def _recount(self, one: ShardLedger, shard: int) -> None:
        rows = [row.get("tokens", (0, 0)) for row in self._rows(shard)]
        one.prompt, one.generated = sum(row[0] for row in rows), sum(row[1] for row in rows)

    def settle_all_killed(self) -> None:
        """Book what workers left that were killed, of all shards."""
        with self.changing() as ledger:
            for name in list(ledger.shards):
                if not is_held(self.shard_lock(int(name))):
                    self._settle_killed(ledger, int(name))


@dataclass(frozen=True)
class Claim:
    """A shard that this process works on, until it is released."""

    directory: SynthDirectory
    shard: int
    lock: FileLock

    def begin_phase(self, phase: int) -> bool:
        """What is to be written next, see `Ledger`; whether it is its turn."""
        with self.directory.changing() as ledger:
            ledger.of(self.shard).go_on(phase)
            return ledger.may_go_on(self.shard)

    def reserve(self, tokens: int, *, at_risk: int, steps: int, stopping: Callable[[], bool]) -> Reserved:
        """Reserve tokens before anything of the phase is written. steps: how many ask teachers.

        later: others come first, whom nobody works on. no: the budget has no room, or it was asked to stop.
        """
        while not stopping():
            with self.directory.changing() as ledger:
                self._settle_others(ledger)
                match ledger.admit(self.shard, tokens, steps=steps):
                    case "yes" if ledger.holds(tokens):
                        one = ledger.of(self.shard)
                        one.reserved, one.at_risk = tokens, at_risk
                        return "yes"
                    case "yes" if not ledger.reserved:  # killed workers lost more than is held back for that
                        ledger.refuse(self.shard, tokens)
                        return "no"
                    case "wait" if not all(is_held(self.directory.shard_lock(shard)) for shard in ledger.undecided(self.shard)):
                        return "later"
                    case "later" | "no" as answer:
                        return answer
            time.sleep(POLL_SECONDS)
        return "no"

    def _settle_others(self, ledger: Ledger) -> None:
        """Book what others left that were killed."""
        for name, other in ledger.shards.items():
            if other.reserved and int(name) != self.shard and not is_held(self.directory.shard_lock(int(name))):
                self.directory._settle_killed(ledger, int(name))

    def settle(self, *, lost: int = 0, ended: bool = True) -> None:
        """Book what was written. lost: tokens of texts that were broken off. ended: whether all of the phase is written."""
        with self.directory.changing() as ledger:
            one = ledger.of(self.shard)
            self.directory._recount(one, self.shard)
            one.lost += lost
            one.reserved = one.at_risk = 0
            if ended:
                one.go_on(one.phase + 1)

    def finish(self) -> None:
        """All of the shard is written."""
        with self.directory.changing() as ledger:
            ledger.of(self.shard).done = True

    def release(self) -> None:
        self.lock.release()
