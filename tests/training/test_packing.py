"""Models that cannot keep packed documents apart train on padded rows, and on no others."""

from __future__ import annotations

import pytest

from harness.config.errors import InputError
from harness.runs.result import read_result
from tests.training.conftest import NewRun
from tests.training.runs import train_here


def test_a_family_that_leaks(new_run: NewRun) -> None:
    for packing in ("best_fit", "concat"):
        _, run = new_run(packing, "model.family=falcon", "model.intermediate_size=null", f"data.packing={packing}")
        with pytest.raises(InputError, match=f"data.packing={packing}: documents of a row see each other in this model .falcon"):
            train_here(run)
        assert read_result(run).state == "failed"
    _, run = new_run("padded", "model.family=falcon", "model.intermediate_size=null", "data.packing=padded")
    assert train_here(run).state == "complete"


@pytest.mark.parametrize("packing", ["best_fit", "concat", "padded"])
def test_learned_positions(new_run: NewRun, packing: str) -> None:
    _, run = new_run("run", "model.family=gpt2", "model.intermediate_size=null", f"data.packing={packing}")
    done = train_here(run)
    assert done.state == "complete"
    assert done.metrics["val/domain/forgetting"] < 0
