"""Tables of learning curves: what lies between their curves, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulation.seeded_table import Noise, SeededTable
from benchmarks.simulation.table import Column, Table, check_table, read_table
from harness.config.errors import InputError


def table_of(folder: Path, text: str) -> Table:
    path = folder / "table.csv"
    path.write_text(text)
    return read_table(path)


def final(table: Table, steps: int = 100, **params: object) -> float:
    values = {key.replace("__", "."): value for key, value in params.items()}
    return table.answer(values, steps).at(1.0)["val/a/loss"]


RATES = "optim.lr,schedule,step,val/a/loss\n" + "".join(
    f"{lr},{schedule},{step},{4 - step / 100 + loss}\n"
    for lr, loss in ((1e-3, 0.4), (1e-2, 0.0), (1e-1, 0.4))
    for schedule in ("wsd", "cosine")
    for step in (0, 50, 100)
)


def test_the_tables_own_runs_are_answered_as_they_are(tmp_path: Path) -> None:
    table = table_of(tmp_path, RATES)
    assert final(table, optim__lr=1e-3, schedule="wsd") == pytest.approx(3.4)
    assert final(table, optim__lr=1e-2, schedule="cosine") == pytest.approx(3.0)


def test_between_rates_the_logarithm_counts(tmp_path: Path) -> None:
    # The parabola through 0.4, 0, 0.4 at -1, 0, 1.
    assert final(table_of(tmp_path, RATES), optim__lr=10**-2.5, schedule="wsd") == pytest.approx(3.1)


def test_between_two_values_the_answer_lies_on_a_line(tmp_path: Path) -> None:
    table = table_of(tmp_path, "data.replay_share,step,val/a/loss\n0.0,100,3.0\n0.5,100,2.0\n")
    assert final(table, data__replay_share=0.1) == pytest.approx(2.8)


def test_between_lengths_the_logarithm_counts(tmp_path: Path) -> None:
    rows = [f"{lr},{steps},{steps},{loss}\n" for lr in (1e-3, 1e-2) for steps, loss in ((10, 3.0), (1000, 2.0))]
    table = table_of(tmp_path, "optim.lr,trainer.max_steps,step,val/a/loss\n" + "".join(rows))
    assert final(table, 100, optim__lr=1e-3) == pytest.approx(2.5)


def test_a_curve_is_read_at_any_share_of_the_run(tmp_path: Path) -> None:
    answer = table_of(tmp_path, RATES).answer({"optim.lr": 1e-2, "schedule": "wsd"}, 100)
    assert answer.at(0.25)["val/a/loss"] == pytest.approx(3.75)


def test_beyond_the_ends_the_nearest_end_answers(tmp_path: Path) -> None:
    assert final(table_of(tmp_path, RATES), optim__lr=1.0, schedule="wsd") == pytest.approx(3.4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("optim.lr,step,val/a/loss\n", "needs step, a parameter"),
        ("optim.lr,schedule,step\n1e-3,wsd,1\n", "needs step, a parameter"),
        ("size,step,val/a/loss\n1,2,3\n", "needs step, a parameter"),
        ("optim.lr,step,val/a/loss\n1e-3,1,2\n1e-3,1,3\n", "steps have to rise"),
        ("optim.lr,data.replay_share,step,val/a/loss\n1e-3,,9,2\n1e-3,0.5,9,3\n", "have not all values for data.replay_share"),
        ("optim.lr,data.replay_share,step,val/a/loss\n1e-3,0.1,9,2\n1e-2,0.5,9,3\n", "fill no grid over data.replay_share, optim.lr"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        table_of(tmp_path, text)
    assert says in str(error.value)


def test_what_no_curve_has_is_refused(tmp_path: Path) -> None:
    table = table_of(tmp_path, RATES)
    with pytest.raises(InputError, match="no curves with schedule=linear; valid: schedule=wsd; schedule=cosine"):
        final(table, optim__lr=1e-3, schedule="linear")
    with pytest.raises(InputError, match="no runs of 1000 steps; valid: from 100 to 100"):
        final(table, 1000, optim__lr=1e-3, schedule="wsd")
    with pytest.raises(InputError, match="lr=None is no number"):
        final(table, optim__lr=None, schedule="wsd")
    with pytest.raises(InputError, match=r"data\.packing"):
        check_table(table, ["val/a/loss"], ["data.packing"])
    with pytest.raises(InputError, match="val/b/loss"):
        check_table(table, ["val/b/loss"], ["optim.lr"])


RESULTS = "optim.lr,step,val/a/loss\n1e-3,90,3.0\n1e-2,90,2.0\n"


def test_a_table_of_results_alone_has_no_values_on_the_way(tmp_path: Path) -> None:
    answer = table_of(tmp_path, RESULTS).answer({"optim.lr": 1e-3}, 90)
    assert answer.at(1.0) == {"val/a/loss": 3.0}
    with pytest.raises(InputError, match=r"no value after 11\.1% of the run optim\.lr=0\.001, .*its first row stands at 100\.0%"):
        answer.at(10 / 90)


def test_of_curves_that_begin_late_what_all_of_them_have_is_answered(tmp_path: Path) -> None:
    rows = "optim.lr,step,val/a/loss\n1e-3,10,3.5\n1e-3,100,3.0\n1e-2,20,2.5\n1e-2,100,2.0\n"
    answer = table_of(tmp_path, rows).answer({"optim.lr": 1e-3}, 100)
    assert answer.at(0.2).keys() == {"val/a/loss"}
    with pytest.raises(InputError, match=r"first row stands at 20\.0%"):
        answer.at(0.1)


def test_columns_of_other_names_and_units(tmp_path: Path) -> None:
    path = tmp_path / "foreign.csv"
    path.write_text("lr,bs,iteration,loss\n1e-3,1,0,5.0\n1e-3,1,10,3.0\n1e-3,4,0,5.0\n1e-3,4,10,2.0\n")
    renames = ("lr=optim.lr", "bs*2048=trainer.batch_tokens", "iteration*9=step", "loss=val/a/loss")
    table = read_table(path, [Column.read(text) for text in renames])
    assert table.params == ("optim.lr", "trainer.batch_tokens")
    assert table.answer({"optim.lr": 1e-3, "trainer.batch_tokens": 8192}, 90).at(1.0) == {"val/a/loss": 2.0}


@pytest.mark.parametrize("text", ["bs", "bs*2048", "bs*many=trainer.batch_tokens", "=optim.lr"])
def test_a_rename_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="expected COLUMN=KEY or"):
        Column.read(text)


def test_a_rename_of_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(RESULTS)
    with pytest.raises(InputError, match=r"--rename: .*stepp"):
        read_table(path, [Column.read("stepp=step")])


def test_seeds_shift_runs_together_and_each_run_by_itself(tmp_path: Path) -> None:
    """The shifts of two points over many seeds have the deviations, and the covariance, that they are to have; step 0 is as it was."""
    truth = table_of(tmp_path, RATES)
    table = SeededTable(truth, {"val/a/loss": Noise(common=0.03, own=0.04)}, draw=1)
    points = [{"optim.lr": rate, "schedule": "wsd"} for rate in (1e-3, 1e-2)]
    shifts = np.array([[final(table, **point, seed=seed) - final(truth, **point) for point in points] for seed in range(2000)])
    assert shifts.std(axis=0) == pytest.approx(0.05, rel=0.08)
    assert np.cov(shifts.T)[0, 1] == pytest.approx(0.03**2, rel=0.2)
    assert abs(shifts.mean()) < 3 * 0.05 / 2000**0.5
    again = SeededTable(truth, {"val/a/loss": Noise(common=0.03, own=0.04)}, draw=1)
    assert final(again, **points[0], seed=7) == final(table, **points[0], seed=7)
    assert table.answer({**points[0], "seed": 7}, 100).at(0.0) == truth.answer(points[0], 100).at(0.0)
