"""How far a data set is."""

from __future__ import annotations

from typing import Any

from harness.synthesis.directory import SynthDirectory
from harness.synthesis.ledger import ShardLedger


def summary(directory: SynthDirectory) -> dict[str, Any]:
    """The document of `harness synth --json`, and of `harness status` of such a directory; state: running, waiting (for the command to be
    given again, or for jobs to start) or complete."""
    kept, ledger = directory.begun(), directory.ledger()
    manifest = directory.made()
    shards = [ledger.shards.get(str(shard), ShardLedger()) for shard in range(kept["shards"])]
    limit = kept["recipe"]["budget"]["tokens"]
    at_work, is_complete = directory.at_work(kept["shards"]), all(one.done for one in shards) and directory.manifest.is_file()
    written = answers(directory, kept["shards"])
    return {
        "synth": directory.name,
        "path": str(directory.path),
        "state": "running" if at_work or directory.is_making() else "complete" if is_complete else "waiting",
        # New draws for what could not be parsed come on top of what was known beforehand.
        "answers": {"written": written, "asked": max(written, kept["asks"])},
        "shards": {"done": sum(one.done for one in shards), "all": len(shards)},
        "workers": at_work,
        "funnel": manifest.get("funnel", {}),
        "rejected": manifest.get("rejected", {}),
        "rows": manifest.get("rows", 0),
        "sha256": manifest.get("sha256"),
        "tokens": {name: sum(getattr(one, name) for one in shards) for name in ("prompt", "generated", "lost")},
        "budget": {"tokens": {"limit": limit, "used": ledger.used, "reserved": ledger.reserved}, "refused": ledger.refused},
    }


def no_room(refused: dict[str, int]) -> str:
    """Why the budget ended, of `Ledger.refused`."""
    kept = f", {refused['held_back']:,} of them held back for what killed workers lose" if refused["held_back"] else ""
    return f"no room for the {refused['needs']:,} tokens that the next texts can take at most ({refused['left']:,} left{kept})"


def answers(directory: SynthDirectory, shards: int) -> int:
    """How many answers are written."""
    found = 0
    for shard in range(shards):
        file = directory.shard_file(shard)
        if file.is_file():
            found += file.read_bytes().count(b"\n")
    return found


def in_words(found: dict[str, Any]) -> list[str]:
    """A data set in words, of `summary`."""
    tokens, budget = found["tokens"], found["budget"]["tokens"]
    shown = [" → ".join(f"{count:,} {name}" for name, count in found["funnel"].items())] if found["funnel"] else []
    shown += [f"  {count:,} dropped by {rule}" for rule, count in found["rejected"].items()]
    limit = "" if budget["limit"] is None else f" of {budget['limit']:,}"
    reserved = f", {budget['reserved']:,} reserved" if budget["reserved"] else ""
    lost = f", {tokens['lost']:,} lost with texts that were broken off" if tokens["lost"] else ""
    each = f"; {budget['used'] / found['rows']:,.0f} a row" if found["rows"] else ""
    read = f"({tokens['prompt']:,} read, {tokens['generated']:,} written{lost})"
    return [*shown, f"teachers: {budget['used']:,}{limit} tokens {read}{reserved}{each}"]
