"""`python -m benchmarks.simulate`: what it prints, refuses and leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.simulate import main
from tests.search.conftest import WriteSweep

BATCH = 128
BASE = ["trainer.max_steps=40", "trainer.max_tokens=null", f"trainer.batch_tokens={BATCH}", "trainer.evaluate_every_steps=10"]
TABLE = "optim.lr,step,tokens,val/domain/loss\n" + "".join(f"{lr},40,{40 * BATCH},{2 + lr}\n" for lr in (1e-3, 1e-2))

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(write_sweep: WriteSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Simulates over a table: the exit code, and what it said on either stream."""

    def said(*words: str, table: str = TABLE, low: float = 1e-3, high: float = 1e-2) -> tuple[int, str, str]:
        path = tmp_path / "table.csv"
        path.write_text(table)
        sweep = write_sweep(base=BASE, space={"optim.lr": {"low": low, "high": high}}, budget={"trials": 3})
        try:
            code: object = main([str(sweep), "--table", str(path), *words])
        except SystemExit as exit:
            code = exit.code
        assert isinstance(code, int)
        return (code, *capsys.readouterr())

    return said


def test_a_row_for_every_seed_under_one_header(say: Say) -> None:
    code, out, err = say("--seeds", "2", "--workers", "1")
    assert (code, err) == (0, "")
    assert [line.split(" | ")[0] for line in out.splitlines()] == ["| seed", "|---|---|---|---|---|---|---|---|---|---|", "| 0", "| 1"]


def test_what_lies_beyond_the_table_is_said_once(say: Say) -> None:
    code, _, err = say("--seeds", "2", "--workers", "1", low=1e-4)
    assert code == 0
    assert err == "space.optim.lr: from 0.0001 to 0.01; table.csv has 0.001 to 0.01: what lies beyond is answered by its ends\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tokens-per-second", "0"], "argument --tokens-per-second: 0: expected a finite number > 0"),
        (["--tokens-per-second", "inf"], "argument --tokens-per-second: inf: expected a finite number > 0"),
        (["--killed", "1.5"], "argument --killed: 1.5: expected a chance from 0 to 1"),
        (["--crashed", "nan"], "argument --crashed: nan: expected a chance from 0 to 1"),
        (["--preempted", "-0.1"], "argument --preempted: -0.1: expected a chance from 0 to 1"),
        (["--killed", "often"], "argument --killed: often: expected a chance from 0 to 1"),
        (["--seeds", "0"], "argument --seeds: 0: expected a whole number > 0"),
        (["--workers", "0"], "argument --workers: 0: expected a whole number > 0"),
        (["--keep", "."], "--keep .: File exists; valid: a new directory"),
        (["--rename", "tokens=step"], "2 columns are step: step, tokens"),
        (["--rename", "tokens*0.5=tokens"], "trainer.batch_tokens=128: the column tokens of table.csv says 64 a step"),
        (["stopping=hyperband"], "no value after 25.0% of the run"),
        (["trainer.batch_token=3"], "Did you mean 'trainer.batch_tokens'?"),
    ],
)
def test_what_cannot_be_simulated_is_said_before_anything_is_printed(say: Say, words: list[str], says: str) -> None:
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_a_space_beside_the_table_is_refused(say: Say) -> None:
    code, out, err = say(low=1.0, high=2.0)
    assert (code, out) == (2, "")
    assert err == "space.optim.lr: from 1 to 2, and table.csv has 0.001 to 0.01; valid: a range that overlaps it\n"


def test_a_batch_that_is_searched_is_a_parameter_of_the_table(
    write_sweep: WriteSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At equal tokens, over a space of rate and batch: whole batches of a batch between make fewer tokens than the table's runs."""
    path, tokens = tmp_path / "table.csv", 4096
    sizes = [(lr, sequences, 2 + sequences / 8) for lr in (1e-3, 1e-2) for sequences in (2, 4, 8)]
    path.write_text("lr,bs,D,loss\n" + "".join(f"{lr},{bs},{tokens},{loss}\n" for lr, bs, loss in sizes))
    base = [f"trainer.max_tokens={tokens}", "trainer.max_steps=null", "schedule.warmup=0"]
    space = {"optim.lr": {"low": 1e-3, "high": 1e-2}, "trainer.batch_tokens": {"choices": [192, 256, 320, 512], "ordered": True}}
    sweep = write_sweep(base=base, space=space, budget={"trials": 12})
    words = [str(sweep), "--table", str(path), "--workers", "1", "--rename", "lr=optim.lr", "--rename", "loss=val/domain/loss"]
    assert main([*words, "--rename", "D=trainer.max_tokens", "--rename", "bs*64=trainer.batch_tokens"]) == 0
    # Linear in the batch: 2 + 192 / 64 / 8.
    assert capsys.readouterr().out.splitlines()[2].startswith("| 0 | 2.3750 |")
    assert main([*words, "--rename", "D=trainer.max_tokens", "--rename", "bs=data.context_length"]) == 2
    assert "table.csv: needs a parameter" in capsys.readouterr().err
    path.write_text("lr,step,loss\n1e-3,16,2\n1e-2,16,2\n")
    assert main(words) == 2
    assert "unknown parameter 'trainer.batch_tokens'" in capsys.readouterr().err


def test_a_refusal_keeps_no_study(say: Say, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert say("stopping=hyperband", "--keep", str(kept))[0] == 2
    assert not kept.exists()
    assert say("--keep", str(kept))[0] == 0
    assert say("--keep", str(kept))[0] == 2
    assert (kept / "sweep.yaml").exists()
