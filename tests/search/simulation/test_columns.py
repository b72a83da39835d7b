"""The cells of a table: what is read, renamed, and refused by file, line, column and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.simulation.columns import Column, read_rows
from benchmarks.simulation.table import read_table
from harness.config.errors import InputError

TABLE = "optim.lr,step,val/a/loss\n1e-3,12,3.0\n1e-2,12,2.0\n"


def refusal(folder: Path, content: str | bytes, *renames: str) -> str:
    path = folder / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as error:
        read_table(path, [Column.read(text) for text in renames])
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("2.0", "", "table.csv, line 3, column val/a/loss: ''; valid: a finite number"),
        ("2.0", "NaN (diverged)", "table.csv, line 3, column val/a/loss: 'NaN (diverged)'"),
        ("2.0", '"6,35"', "table.csv, line 3, column val/a/loss: '6,35'; valid: a finite number, with a decimal point"),
        ("2.0", "nan", "column val/a/loss: 'nan'"),
        ("2.0", "-inf", "column val/a/loss: '-inf'"),
        ("1e-2", '"0,01"', "line 3, column optim.lr: '0,01'; valid: a finite number"),
        ("1e-2", "inf", "line 3, column optim.lr: 'inf'"),
        ("1e-3,12", "1e-3,12.5", "line 2, column step: '12.5'; valid: a whole number from 0 on"),
        ("1e-3,12", "1e-3,-12", "line 2, column step: '-12'"),
        ("1e-3,12", "1e-3,", "line 2, column step: ''"),
        ("1e-2,12,2.0", "1e-2,12", "table.csv, line 3: 2 cells, and the table has 3 columns; last cell: '12'"),
        ("1e-2,12,2.0", "1e-2,12,2.0,99", "table.csv, line 3: 4 cells, and the table has 3 columns; last cell: '99'"),
        (",step", ",optim.lr", "2 columns are optim.lr: optim.lr, optim.lr"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert says in refusal(tmp_path, TABLE.replace(old, new))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "table.csv: has no rows"),
        ("optim.lr,step,val/a/loss\n", "table.csv: has no rows"),
        (TABLE.replace(",", ";"), "separated by semicolons; valid: commas"),
        (TABLE.replace(",", "\t"), "separated by tabs; valid: commas"),
        (TABLE.replace("loss", "l\u00f6ss").encode("latin-1"), "is no text in UTF-8, from byte 21 on"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    assert says in refusal(tmp_path, content)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--table .*absent\.csv: No such file or directory; valid: a \.csv file"):
        read_rows(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="Is a directory"):
        read_rows(tmp_path)


def test_what_spreadsheets_and_frames_write_is_read(tmp_path: Path) -> None:
    """A byte order mark, spaces, whole floats and lines that are empty."""
    path = tmp_path / "table.csv"
    path.write_text("\ufeff" + TABLE.replace(",12", ",12.0").replace(",", ", ") + "\n\n")
    assert read_table(path).answer({"optim.lr": 1e-2}, 12).at(1.0) == {"val/a/loss": 2.0}


@pytest.mark.parametrize("text", ["bs", "bs*2048", "=optim.lr"])
def test_a_rename_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="expected COLUMN=KEY or"):
        Column.read(text)


@pytest.mark.parametrize("factor", ["many", "0", "-2", "nan", "inf"])
def test_a_factor_that_is_no_positive_number(factor: str) -> None:
    with pytest.raises(InputError, match=f"--rename bs.*: the factor {factor} is no finite number > 0"):
        Column.read(f"bs*{factor}=trainer.batch_tokens")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bs=trainer.batch_token", "Did you mean 'trainer.batch_tokens'?"),
        ("iteration=steps", "Did you mean 'step'?"),
        ("learning=lr", "It is optim.lr here."),
        (
            "loss=loss",
            "--rename loss=loss: loss is none of a configuration key or group, a metric (with a slash, e.g. val/target/loss), step",
        ),
    ],
)
def test_a_rename_to_what_a_table_cannot_have(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        Column.read(text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("renames", "says"),
    [
        (["stepp=step"], "table.csv, --rename: unknown column 'stepp'. Did you mean 'step'?"),
        (["bs=optim.lr"], "2 columns are optim.lr: optim.lr, bs; valid: one"),
        (["bs=trainer.batch_tokens", "other=trainer.batch_tokens"], "2 columns are trainer.batch_tokens: bs, other"),
        (["bs=trainer.batch_tokens", "bs=optim.weight_decay"], "--rename: the column bs is given twice"),
    ],
)
def test_renames_that_contradict(tmp_path: Path, renames: list[str], says: str) -> None:
    assert says in refusal(tmp_path, "optim.lr,bs,other,step,val/a/loss\n1e-3,1,2,3,4\n", *renames)


def test_columns_may_change_places(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("tokens,step\n12,24\n")
    (row,) = read_rows(path, [Column.read("tokens=step"), Column.read("step*2=tokens")])
    assert row.cells == {"step": "12", "tokens": "48"}
