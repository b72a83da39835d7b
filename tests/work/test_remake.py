"""Models of a recipe's merge that are trained again: what is said of them."""

from __future__ import annotations

import pytest

from harness.work.remake import Remade


@pytest.mark.parametrize(
    ("is_same", "said"),
    [(True, ", to the same bits"), (False, ", not to the same bits"), (None, ", whether to the same bits is not known")],
)
def test_the_bits_are_not_called_the_same_where_they_are_not_known(is_same: bool | None, said: str) -> None:
    assert Remade("model.merge.base", "my is not here", "runs/again", is_same).line.endswith(said)
