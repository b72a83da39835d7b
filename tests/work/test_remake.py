"""Models of a recipe's merge that are trained again: what is said of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.runs.files import write_yaml
from harness.work.remake import Remade, parted


@pytest.mark.parametrize(
    ("is_same", "said"),
    [(True, ", to the same bits"), (False, ", not to the same bits"), (None, ", whether to the same bits is not known")],
)
def test_the_bits_are_not_called_the_same_where_they_are_not_known(is_same: bool | None, said: str) -> None:
    assert Remade("model.merge.base", "my is not here", "runs/again", is_same).line.endswith(said)


def test_what_the_merge_has_not_is_of_its_models(tmp_path: Path) -> None:
    """A merge has model.path, too, as null."""
    write_yaml(tmp_path / "config.yaml", {"model": {"path": None, "merge": {"base": "base"}}, "data": {"sources": {"x": {"path": "x"}}}})
    one = {"made_by": {"config": {"model": {"path": "base", "checkpoint": None}, "data": {"sources": {"x": {"path": "x"}}}}}}
    bundle: Any = SimpleNamespace(config=tmp_path / "config.yaml", read=lambda: SimpleNamespace(ingredients={"model.merge.base": one}))
    given = ["model.path=here", "data.sources.x.path=y", "model.merge.base=b"]
    assert parted(bundle, given) == (given[1:], given[:1])
