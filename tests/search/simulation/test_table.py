"""Tables of learning curves: what is read, what lies between the points, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.search.simulation.reading import read_table
from harness.search.simulation.table import Interpolation, Table


def table_of(folder: Path, text: str, interpolation: Interpolation = "linear") -> Table:
    path = folder / "table.csv"
    path.write_text(text)
    return read_table(path, interpolation=interpolation)


def final(table: Table, length: float = 100, **params: object) -> float:
    values = {key.replace("__", "."): value for key, value in params.items()}
    return table.answer(values, length).at(1.0)["val/a/loss"]


RATES = "optim.lr,schedule,step,val/a/loss\n" + "".join(
    f"{lr},{schedule},{step},{4 - step / 100 + loss}\n"
    for lr, loss in ((1e-3, 0.4), (1e-2, 0.0), (1e-1, 0.4))
    for schedule in ("wsd", "cosine")
    for step in (0, 50, 100)
)


def test_the_tables_own_runs_are_answered_as_they_are(tmp_path: Path) -> None:
    for interpolation in ("linear", "quadratic", "nearest"):
        table = table_of(tmp_path, RATES, interpolation)  # type: ignore[arg-type]
        assert final(table, optim__lr=1e-3, schedule="wsd") == pytest.approx(3.4)
        assert final(table, optim__lr=1e-2, schedule="cosine") == pytest.approx(3.0)


def test_between_rates_the_logarithm_counts(tmp_path: Path) -> None:
    halfway = 10**-2.5
    assert final(table_of(tmp_path, RATES), optim__lr=halfway, schedule="wsd") == pytest.approx(3.2)
    # The parabola through 0.4, 0, 0.4 at -1, 0, 1.
    assert final(table_of(tmp_path, RATES, "quadratic"), optim__lr=halfway, schedule="wsd") == pytest.approx(3.1)
    assert final(table_of(tmp_path, RATES, "nearest"), optim__lr=10**-2.4, schedule="wsd") == pytest.approx(3.0)


def test_a_curve_is_read_at_any_share_of_the_run(tmp_path: Path) -> None:
    answer = table_of(tmp_path, RATES).answer({"optim.lr": 1e-2, "schedule": "wsd"}, 100)
    assert answer.at(0.25)["val/a/loss"] == pytest.approx(3.75)


def test_beyond_the_ends_the_nearest_end_answers_and_that_is_known(tmp_path: Path) -> None:
    table = table_of(tmp_path, RATES)
    assert final(table, optim__lr=1.0, schedule="wsd") == pytest.approx(3.4)
    assert table.outside == {"optim.lr"}


def test_lengths_that_differ_by_padding_alone_are_one(tmp_path: Path) -> None:
    lengths = {1e-3: (99, 900), 1e-2: (100, 890)}
    rows = [f"{lr},{tokens},{loss}\n" for lr, pair in lengths.items() for tokens, loss in zip(pair, (3.0, 2.0), strict=True)]
    runs = "".join(f"{number},{row}" for number, row in enumerate(rows))
    table = table_of(tmp_path, f"run,optim.lr,tokens,val/a/loss\n{runs}")
    assert final(table, length=300, optim__lr=3e-3) == pytest.approx(2.5, abs=0.01)


def test_scattered_runs_are_weighed_by_their_distance(tmp_path: Path) -> None:
    rows = "0.1,0.1,1.0\n0.9,0.1,2.0\n0.5,0.9,4.0\n"
    table = table_of(tmp_path, f"data.replay_share,optim.weight_decay,val/a/loss\n{rows}")
    assert final(table, data__replay_share=0.1, optim__weight_decay=0.1) == pytest.approx(1.0)
    # Scaled: (0, 0), (1, 0), (.5, 1); from (.5, 0) the distances² are .25, .25, 1.
    assert final(table, data__replay_share=0.5, optim__weight_decay=0.1) == pytest.approx((4 * 1 + 4 * 2 + 4) / 9)


def test_many_scattered_numbers_need_no_memory_for_a_grid(tmp_path: Path) -> None:
    names = [f"w_{domain}" for domain in range(17)]
    rows = [",".join([str(run), *(str((run * (n + 2) % 97) / 97) for n in range(17)), f"{run}.0"]) for run in range(97)]
    table = table_of(tmp_path, "\n".join([",".join(["index", *names, "a_loss"]), *rows]))
    weights = {f"data.sources.{n}.weight": (7 * (n + 2) % 97) / 97 for n in range(17)}
    assert table.answer(weights, 1).at(1.0) == {"val/a/loss": 7.0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("optim.lr,val/a/loss\n", "holds no rows"),
        ("optim.lr,schedule\n1e-3,wsd\n", "no column with a metric"),
        ("a,b\n1,2\n", "no column named by a configuration key"),
        ("optim.lr,size,val/a/loss\n1e-3,big,2\n1e-3,small,3\n", "--where size=VALUE, VALUE one of big, small"),
        ("optim.lr,step,val/a/loss\n1e-3,1,2\n1e-3,1,3\n", "several rows at the same step"),
        ("optim.lr,step,val/a/loss\n1e-3,1,2\n1e-3,2,\n", "the last row has no val/a/loss"),
        ("optim.lr,data.replay_share,val/a/loss\n1e-3,,2\n1e-3,0.5,3\n", "some have data.replay_share and some do not"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        table_of(tmp_path, text).answer({"optim.lr": 1e-3}, 1)
    assert says in str(error.value)


def test_what_no_curve_has_is_refused(tmp_path: Path) -> None:
    table = table_of(tmp_path, RATES)
    with pytest.raises(InputError, match="no curves with schedule=linear; valid: schedule=wsd; schedule=cosine"):
        final(table, optim__lr=1e-3, schedule="linear")
    with pytest.raises(InputError, match="no runs of about 1000 steps; valid: from 100 to 100 steps"):
        final(table, length=1000, optim__lr=1e-3, schedule="wsd")
    with pytest.raises(InputError, match=r"data\.packing"):
        table.check("data.packing", ["concat"])
    with pytest.raises(InputError, match="linear"):
        table.check("schedule", ["wsd", "linear"])


def test_published_tables_are_known_by_their_columns(tmp_path: Path) -> None:
    curves = tmp_path / "curves.csv.gz"
    rows = [("25M", "cosine_200", 100, 3e-4, 4.0), ("25M", "cosine_200", 200, 3e-5, 3.0), ("25M", "wsdcon_9", 200, 3e-4, 3.5)]
    rows += [("25M", "wsdld_160_200", 200, 3e-5, 2.9), ("100M", "cosine_200", 200, 3e-5, 2.5)]
    curves.write_bytes(gzip.compress(("size,schedule,step,lr,loss\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)).encode()))
    table = read_table(curves, where={"size": "25M"}, rename={"loss": "val/a/loss"})
    assert final(table, length=200, schedule="cosine") == 3.0
    assert final(table, length=200, schedule="wsd", schedule__decay_shape="linear", schedule__decay_fraction=0.2) == 2.9
    mixtures = tmp_path / "mixtures.csv"
    mixtures.write_text("index,w_arxiv,w_github,arxiv_loss\n1,0.2,0.8,5.0\n2,0.8,0.2,4.0\n")
    table = read_table(mixtures)
    weights = {"data.sources.arxiv.weight": 0.8, "data.sources.github.weight": 0.2}
    assert table.answer(weights, 123).at(1.0) == {"val/arxiv/loss": 4.0}


def test_jsonl_and_parquet_say_the_same(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"optim.lr": lr, "step": step, "val/a/loss": lr + step} for lr in (1e-3, 1e-2) for step in (1, 2)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        assert final(read_table(tmp_path / name), length=2, optim__lr=1e-2) == pytest.approx(2.01)
