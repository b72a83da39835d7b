from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.config.errors import InputError
from harness.data.rows import read_rows
from harness.data.sources import read_documents, read_files, source_files

KEY = "data.sources.docs"


def texts(path: Path | str, field: str = "text") -> list[str]:
    return list(read_documents(str(path), field, key=KEY))


def test_every_format_gives_its_documents(tmp_path: Path) -> None:
    rows = [{"text": "erste Zeile äöü"}, {"text": "zweite"}]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "a.jsonl").write_text(lines + "\n\n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as stream:
        stream.write(lines)
    pq.write_table(pa.table({"text": ["erste Zeile äöü", "zweite"], "n": [1, 2]}), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_bytes(b"\xef\xbb\xbferste Zeile\nzweite")
    (tmp_path / "e.md").write_text("# Titel")
    expected = [row["text"] for row in rows]
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        assert texts(tmp_path / name) == expected
    assert texts(tmp_path) == expected * 3 + ["erste Zeile\nzweite", "# Titel"]


def test_positions_count_the_bytes_of_all_files(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"text": "one"}\n{"text": "two"}\n')
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "c.parquet")
    files = source_files(str(tmp_path), key=KEY)
    positions = [document.position for document in read_files(files, "text", key=KEY)]
    assert positions == sorted(positions)
    assert positions[-1] == sum(file.stat().st_size for file in files)


def test_directories_and_globs_leave_hidden_files_out(tmp_path: Path) -> None:
    for name in ("b/two.txt", "a/one.txt", "a/deep/three.md", ".git/hidden.txt", "a/.hidden.txt", "a/table.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    found = {
        pattern: [str(file.relative_to(tmp_path)) for file in source_files(f"{tmp_path}{pattern}", key=KEY)]
        for pattern in ("", "/**", "/*/*.txt")
    }
    assert found[""] == found["/**"] == ["a/deep/three.md", "a/one.txt", "b/two.txt"]
    assert found["/*/*.txt"] == ["a/one.txt", "b/two.txt"]


def test_documents_without_text_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": " \\n"}\n{"text": "one"}\n')
    assert texts(tmp_path / "a.jsonl") == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            b"x",
            "data.sources.docs.path={file}: unsupported kind of file; valid endings: .jsonl, .jsonl.gz, .parquet, .arrow, .txt, .md",
        ),
        ("a.jsonl", b"", "data.sources.docs: no document with any text in {file}"),
        ("a.txt", b"  \n", "data.sources.docs: no document with any text in {file}"),
        ("a.jsonl", b'{"text": "one"}\n{"text": \n', "{file}, line 2: not valid JSON (Expecting value at column 9)"),
        ("a.jsonl", b'{"text": "one"}\n["two"]\n', "{file}, line 2: a JSON array, not an object"),
        (
            "a.jsonl",
            b'{"tetx": "one", "id": 1}\n',
            "line 1: no field 'text' (data.sources.docs.field=text). Did you mean 'tetx'? Fields there: tetx, id.",
        ),
        ("a.jsonl", b'{"text": null}\n', "{file}, line 1: field 'text' is a null, not a string"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "{file}, line 1: field 'text' is not Unicode text (half a surrogate pair at character 0)"),
        ("a.jsonl", b'{"text": "one"}\n{"text": "\xff"}\n', "{file}, line 2: not UTF-8 (byte 10 is 0xff)"),
        ("a.txt", b"one \xff", "{file}: not UTF-8 (byte 4 is 0xff)"),
        ("a.jsonl.gz", b'{"text": "one"}\n', "{file}: broken gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "one"}\n' * 1000, mtime=0)[:-20], "{file}: broken gzip file"),
        ("a.parquet", b"PAR1, or so it says", "{file}: not a readable parquet file"),
        ("a.parquet", b"", "{file}: not a readable parquet file"),
    ],
)
def test_bad_content_is_named_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message.format(file=file))) as caught:
        texts(file)
    assert str(caught.value).startswith("data.sources.docs")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"body": ["x"]}, "no field 'text' (data.sources.docs.field=text). Fields there: body."),
        ({"text": [1]}, "row 1: field 'text' is a number, not a string"),
        ({"text": ["x", None]}, "row 2: field 'text' is a null, not a string"),
    ],
)
def test_bad_parquet_columns(tmp_path: Path, column: dict[str, list[object]], message: str) -> None:
    pq.write_table(pa.table(column), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=re.escape(message)):
        texts(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.jsonl", "no such file or directory"),
        ("*.jsonl", "no file there ends in .jsonl, .jsonl.gz, .parquet, .arrow, .txt, .md"),
        ("", "no file there ends in .jsonl, .jsonl.gz, .parquet, .arrow, .txt, .md (there is {root}/table.csv, for example)"),
    ],
)
def test_paths_that_name_nothing(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(InputError, match=re.escape(message.format(root=tmp_path))) as caught:
        source_files(f"{tmp_path}/{path}", key=KEY)
    assert str(caught.value).startswith(f"data.sources.docs.path={tmp_path}/{path}: ")


def test_an_integer_of_thousands_of_digits_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "number": ' + "9" * 5000 + "}\n")
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: not valid JSON"):
        list(read_rows(tmp_path / "a.jsonl", key="k"))


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("us", tz="UTC"), pa.duration("ms")])
def test_times_that_python_has_no_name_for_are_one_message(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": ["a"], "when": pa.array([2**62], kind)}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read, between rows 1 and 1"):
        list(read_rows(tmp_path / "a.parquet", key="k"))
