"""Tables of learning curves: what lies between their curves, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulation.columns import Column
from benchmarks.simulation.seeded_table import Noise, SeededTable
from benchmarks.simulation.table import Table, beyond, check_batch, check_table, read_table
from harness.config.errors import InputError
from harness.search.parameter import Parameter

TABLES = Path(__file__).parents[3] / "benchmarks" / "tables"


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
        ("optim.lr,schedule,step\n1e-3,wsd,1\n", "needs a parameter such as optim.lr, a metric"),
        ("size,step,val/a/loss\n1,2,3\n", "columns: parameters: none; metrics: val/a/loss; ignored: size"),
        ("trainer.max_steps,step,val/a/loss\n1,1,3\n", "needs a parameter such as optim.lr, a metric"),
        ("optim.lr,trainer.max_tokens,val/a/loss\n1,2,3\n", "or trainer.max_tokens and trainer.batch_tokens; columns"),
        ("optim.lr,step,val/a/loss\n1e-3,1,2\n1e-3,1,3\n", "table.csv, lines 2 and 3: two rows of one run (optim.lr=0.001) at step 1"),
        (
            "learning_rate,seed,step,val/a/loss\n1,0,1,2\n2,0,1,3\n",
            "ignored: learning_rate (optim.lr here: --rename learning_rate=optim.lr)",
        ),
        ("optim.lr,step,val/a/loss\n1e-3,0,2\n", "line 2: the run optim.lr=0.001 has no row after step 0"),
        (
            "optim.lr,trainer.max_tokens,trainer.batch_tokens,val/a/loss\n1e-3,9,64,2\n",
            "line 2: the run optim.lr=0.001, trainer.batch_tokens=64",
        ),
        (
            "optim.lr,trainer.max_tokens,trainer.batch_tokens,val/a/loss\n1e-3,9,0,2\n",
            "column trainer.batch_tokens: '0'; valid: a whole number",
        ),
        ("optim.lr,trainer.max_steps,val/a/loss\n1e-3,,2\n", "line 2: has no length; valid: trainer.max_steps"),
        ("optim.lr,data.replay_share,step,val/a/loss\n1e-3,,9,2\n1e-3,0.5,9,3\n", "have not all values for data.replay_share"),
        ("optim.lr,data.replay_share,step,val/a/loss\n1e-3,0.1,9,2\n1e-2,0.5,9,3\n", "fill no grid over data.replay_share, optim.lr"),
        (
            "optim.lr,data.replay_share,step,val/a/loss\n1e-3,0.1,9,2\n1e-2,0.1,9,2\n1e-3,0.5,9,3\n",
            "1 missing, e.g. that of data.replay_share=0.5, optim.lr=0.01, trainer.max_steps=9",
        ),
        ("optim.lr,trainer.max_steps,step,val/a/loss\n1e-3,8,9,2\n1e-3,9,9,2\n", "several have optim.lr=0.001, trainer.max_steps=9"),
        (
            "optim.lr,trainer.batch_tokens,step,val/a/loss\n1e-3,64,8,2\n1e-3,128,4,2\n2e-3,64,8,3\n",
            "with lengths in tokens: table.csv: the curves fill no grid over optim.lr, trainer.batch_tokens, trainer.max_tokens: 1 missing",
        ),
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


EQUAL_TOKENS = "".join(
    f"{lr},{batch},{done},{2**14 * done // batch // 8},{3 + (lr == 2e-3) + math.log2(batch / 512) ** 2 + (8 - done) / 8}\n"
    for lr in (1e-3, 2e-3)
    for batch in (256, 512, 1024)
    for done in (0, 4, 8)
)


def test_at_equal_tokens_the_length_is_in_tokens(tmp_path: Path) -> None:
    table = table_of(tmp_path, "optim.lr,trainer.batch_tokens,eighths,step,val/a/loss\n" + EQUAL_TOKENS)
    assert table.params == ("optim.lr", "trainer.batch_tokens")
    assert table.axes({})["trainer.max_tokens"] == [2**14]
    assert final(table, 64, optim__lr=1e-3, trainer__batch_tokens=256) == 4.0
    assert final(table, 16, optim__lr=2e-3, trainer__batch_tokens=1024) == 5.0
    answer = table.answer({"optim.lr": 1e-3, "trainer.batch_tokens": 512}, 32)
    assert answer.at(0.5)["val/a/loss"] == 3.5
    # 2**14 tokens are more than 21 and fewer than 22 batches of 768. The parabola through 4, 3, 4 at 256, 512, 1024 is 3 at 768.
    for steps in (21, 22):
        assert final(table, steps, optim__lr=1e-3, trainer__batch_tokens=768) == pytest.approx(3.0)
    for steps, tokens in ((20, 15360), (23, 17664)):
        with pytest.raises(InputError, match=f"has no runs of {tokens} tokens; valid: from 16384 to 16384"):
            final(table, steps, optim__lr=1e-3, trainer__batch_tokens=768)


def test_between_lengths_in_tokens_the_logarithm_counts(tmp_path: Path) -> None:
    rows = [f"1e-3,{batch},{tokens},{loss}\n" for batch in (10, 30) for tokens, loss in ((100, 4.0), (10_000, 2.0))]
    table = table_of(tmp_path, "optim.lr,trainer.batch_tokens,trainer.max_tokens,val/a/loss\n" + "".join(rows))
    # No whole number of batches of 30: they are runs of 90 and 9,990 tokens.
    assert table.axes({})["trainer.max_tokens"] == [100, 10_000]
    for batch in (10, 30):
        assert final(table, 100 // batch, optim__lr=1e-3, trainer__batch_tokens=batch) == 4.0
        assert final(table, 10_000 // batch, optim__lr=1e-3, trainer__batch_tokens=batch) == 2.0
    assert final(table, 100, optim__lr=1e-3, trainer__batch_tokens=10) == pytest.approx(3.0)


def test_equal_steps_of_several_batches_stay_a_length_in_steps(tmp_path: Path) -> None:
    rows = [f"{lr},{batch},64,{batch / 128}\n" for lr in (1e-3, 2e-3) for batch in (128, 256)]
    table = table_of(tmp_path, "optim.lr,trainer.batch_tokens,step,val/a/loss\n" + "".join(rows))
    assert final(table, 64, optim__lr=1e-3, trainer__batch_tokens=256) == 2.0
    assert table.axes({})["trainer.max_steps"] == [64]


def test_results_without_a_step_stand_at_the_ends_of_their_runs(tmp_path: Path) -> None:
    table = table_of(tmp_path, "optim.lr,trainer.max_steps,val/a/loss\n1e-3,90,3.0\n1e-2,90,2.0\n")
    assert (table.params, final(table, 90, optim__lr=1e-2)) == (("optim.lr",), 2.0)
    path = tmp_path / "named.csv"
    path.write_text("lr,D,bs,loss\n1e-3,300,100,3.0\n1e-2,300,100,2.0\n")
    names = ("lr=optim.lr", "D*1000=trainer.max_tokens", "bs=trainer.batch_tokens", "loss=val/a/loss")
    table = read_table(path, [Column.read(text) for text in names])
    assert table.params == ("optim.lr", "trainer.batch_tokens")
    assert final(table, 3000, optim__lr=1e-2, trainer__batch_tokens=100) == 2.0


def test_our_own_table_of_results_is_read_size_by_size(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    header, *rows = (TABLES / "sizes.csv").read_text().splitlines()
    path.write_text("\n".join([header, *(row for row in rows if row.startswith("151552,"))]))
    with pytest.raises(InputError, match=r"fill no grid over optim\.lr"):
        read_table(path)  # the batches are others at each length
    path.write_text("\n".join([header, *(row for row in rows if row.startswith("151552,12000,"))]))
    table = read_table(path, [Column.read("val/target/loss=val/a/loss")])
    assert table.axes({})["trainer.max_tokens"] == [12000]
    for row in rows:
        size, tokens, batch, rate, loss = map(float, row.split(","))
        if (size, tokens) == (151552, 12000):
            assert final(table, int(tokens // batch), optim__lr=rate, trainer__batch_tokens=int(batch)) == pytest.approx(loss)
    with pytest.raises(InputError, match=r"two rows of one run .*; columns: .*ignored: size"):
        read_table(TABLES / "sizes.csv")


def test_the_tokens_of_a_table_tell_its_batch(tmp_path: Path) -> None:
    # The second run is padded.
    table = table_of(tmp_path, "optim.lr,step,tokens,val/a/loss\n1e-3,90,92000,3.0\n1e-2,90,60000,2.0\n")
    assert table.tokens_per_step == pytest.approx(92000 / 90)
    check_batch(table, 1024)
    with pytest.raises(InputError, match=r"trainer\.batch_tokens=2048: the column tokens of table\.csv says 1022 a step"):
        check_batch(table, 2048)
    rows = "optim.lr,trainer.batch_tokens,step,tokens,val/a/loss\n1e-3,64,2,128,3.0\n1e-3,128,1,128,3.0\n"
    check_batch(table_of(tmp_path, rows), 96)


def test_a_space_beyond_the_table_is_told_of_and_one_beside_it_refused(tmp_path: Path) -> None:
    table = table_of(tmp_path, RATES)
    assert beyond(table, [Parameter("optim.lr", low=1e-3, high=1e-1), Parameter("schedule", choices=("wsd", "cosine"))]) == []
    (said,) = beyond(table, [Parameter("optim.lr", low=1e-4, high=1e-2)])
    assert said == "space.optim.lr: from 0.0001 to 0.01; table.csv has 0.001 to 0.1: what lies beyond is answered by its ends"
    with pytest.raises(InputError, match=r"space\.optim\.lr: from 1 to 3, and table\.csv has 0\.001 to 0\.1; valid: a range"):
        beyond(table, [Parameter("optim.lr", choices=(1.0, 3.0))])


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
