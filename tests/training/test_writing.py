"""What a run writes for its evaluation sets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.generation.engine import Engine
from harness.generation.rows import Draw, Generation, Limits
from harness.runs.exit_codes import DONE
from harness.work.attempt import attempt
from tests.support.command import call_harness
from tests.training.conftest import NewRun
from tests.training.runs import train_here


def test_a_run_writes_at_step_0_and_at_the_end_what_harness_generate_writes(new_run: NewRun, tmp_path: Path) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps({"id": f"p{number}", "prompt": f"the {number}"}) + "\n" for number in range(3)))
    own = [f"data.generation.said.path={asked}", "data.generation.said.draws=2", "data.generation.said.max_new_tokens=6"]
    config, run = new_run("trained", *own, "sampling.seed=5", "optim.lr=1e-1")
    train_here(run)
    first, last = (row for row in run.metrics.rows() if "generation/said/length" in row)
    assert (first["step"], last["step"]) == (0, config.trainer.max_steps)
    steps = run.generations.by_step()
    assert list(steps) == [0, config.trainer.max_steps]
    before, after = ({(one.id, one.draw): one.text for one in texts} for texts in steps.values())
    assert before.keys() == after.keys() == {(f"p{number}", draw) for number in range(3) for draw in range(2)}
    assert before != after
    done = call_harness("generate", run.path, "--prompts", asked, "-n", "2", "--max-new-tokens", "6", "--out", "out.jsonl", cwd=tmp_path)
    assert done.rc == 0, done
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {(row["id"], row["draw"]): row["text"] for row in rows} == after


def test_without_noise_one_text_counts_for_all_draws(new_run: NewRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"prompt": "the"}\n{"prompt": "a cat"}\n')
    own = [f"data.generation.said.path={asked}", "data.generation.said.draws=3", "data.generation.said.max_new_tokens=4"]
    counts = []
    write = Engine.write

    def counted(engine: Engine, rows: Sequence[Draw], limits: Limits) -> Iterator[Generation]:
        counts.append(len(rows))
        return write(engine, rows, limits)

    monkeypatch.setattr(Engine, "write", counted)
    _, run = new_run("greedy", *own, "sampling=greedy", "trainer.max_steps=0")
    assert attempt(run) == DONE
    texts = run.generations.by_step()[0]
    assert sum(counts) == 2
    assert [text.draw for text in texts] == [0, 1, 2] * 2
    assert len({text.text for text in texts[:3]}) == len({text.text for text in texts[3:]}) == 1
