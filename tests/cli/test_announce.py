"""The first word of a command that takes seconds, before it composes, imports or reads anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import call_harness

SLOW_VERBS = [
    ["train", "optim.lrr=1"],
    ["evaluate", "my-model", "optim.lrr=1"],
    ["sweep", "nothere"],
    ["reproduce", "nothere"],
    ["compare", "nothere"],
    ["confirm", "nothere"],
    ["sync", "nothere"],
    ["show", "optim.lrr=1", "--shared-with", "optim.lrr=2"],
]


@pytest.mark.parametrize("arguments", SLOW_VERBS, ids=[verb for verb, *_ in SLOW_VERBS])
def test_it_says_what_it_is_about_to_do(tmp_path: Path, arguments: list[str]) -> None:
    done = call_harness(*arguments, cwd=tmp_path)
    first, second, *_ = done.stderr.splitlines()
    assert first.endswith(" …"), done
    assert second.startswith("error: "), done
    assert done.stdout == ""


def test_of_several_ranks_one_says_it(tmp_path: Path) -> None:
    for variable in ("RANK", "SLURM_PROCID"):
        done = call_harness("train", "optim.lrr=1", cwd=tmp_path, env={variable: "1"})
        assert done.stderr.startswith("error: "), done
