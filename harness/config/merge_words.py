"""How the models of a merge are named: the key, and the words that stand for several models."""

from __future__ import annotations

from collections.abc import Mapping

KEY = "model.merge"
SEVERAL = ("study:", "confirm:", "run:", "trunk:")
"""What begins the word for several models."""
COUNTED = {"top": ("study:",), "last": ("run:", "trunk:")}
"""Of which words a key says how many models they stand for."""


def prefix_of(word: str) -> str:
    """That of a word for several models; "" of others."""
    return next((prefix for prefix in SEVERAL if word.startswith(prefix)), "")


def named_now(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Those of the models that were merged, by the keys that they have now: soup-0007 was soup/0007 in an older version."""
    return {key.replace("/", "-"): fingerprint for key, fingerprint in fingerprints.items() if key.startswith(KEY)}


def renamed_since(then: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """A sentence where two versions name the same models of a merge otherwise, which makes another merge's fingerprint of it, and other
    random masks; None where that is not all that differs."""
    old = next((key for key in then if key.startswith(KEY) and key not in now and key.replace("/", "-") in now), None)
    if old is None or any(now.get(key) != fingerprint for key, fingerprint in named_now(then).items()):
        return None
    return f"an older version of harness called the models of one word otherwise ({old} is {old.replace('/', '-')} now)"
