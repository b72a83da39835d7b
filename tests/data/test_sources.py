from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.config.errors import InputError
from harness.data.sources import find_source, find_sources, read_documents, read_files, source_files

LFS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
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


def test_a_list_of_paths_is_read_in_its_order_and_no_file_twice(tmp_path: Path) -> None:
    for name in ("b/one.txt", "b/two.txt", "a.txt", "b/README.md", "c/rows.jsonl", "c/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "x"}')
    listed = [f"{tmp_path}/b/two.txt", f"{tmp_path}/b", f"{tmp_path}/./b/../*.txt", f"{tmp_path}/c"]
    found = find_sources(listed, key=KEY, cache_dir=tmp_path / "cache")
    names = [str(file.relative_to(tmp_path)) for file in found.files]
    assert names == ["b/two.txt", "b/README.md", "b/one.txt", "b/../a.txt", "c/rows.jsonl"]
    assert found.left_out == [tmp_path / "c/README.md"]
    with pytest.raises(InputError, match=rf"{KEY}\.path={tmp_path}/d: no such file"):
        find_sources([*listed, f"{tmp_path}/d"], key=KEY, cache_dir=tmp_path / "cache")


def test_directories_and_globs_leave_hidden_files_out(tmp_path: Path) -> None:
    for name in ("b/two.txt", "a/one.txt", "a/deep/three.md", ".git/hidden.txt", "a/.hidden.txt", "a/table.xml"):
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
            "a.xml",
            b"x",
            "data.sources.docs.path={file}: unsupported kind of file; valid endings: .jsonl, .ndjson, .json",
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
        ("a.jsonl", b'{"text": null}\n', "{file}, line 1: field 'text' is null, not a string"),
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
        ({"text": ["x", None]}, "row 2: field 'text' is null, not a string"),
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
        ("*.jsonl", "no file there ends in .jsonl, .ndjson, .json, .csv"),
        ("", ".parquet, .arrow (there is {root}/table.xml, for example)"),
    ],
)
def test_paths_that_name_nothing(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "table.xml").write_text("a,b")
    with pytest.raises(InputError, match=re.escape(message.format(root=tmp_path))) as caught:
        source_files(f"{tmp_path}/{path}", key=KEY)
    assert str(caught.value).startswith(f"data.sources.docs.path={tmp_path}/{path}: ")


ROWS = [{"text": f"Note {number}, with a comma\nand a line."} for number in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = "id,text\n" + "".join('1,"' + row["text"] + '"\n' for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("A.JSONL", LINES),
        ("a.ndjson", LINES),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS, indent=1).encode()),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        ("a.csv", TABLE.encode()),
        ("a.csv", b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").replace(",", ",").encode()),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_rows_as_text(tmp_path: Path, name: str, content: bytes, ending: str) -> None:
    packed = {"": content, ".gz": gzip.compress(content), ".zst": pa.compress(content, "zstd", asbytes=True)}[ending]
    (tmp_path / f"{name}{ending}").write_bytes(packed)
    assert [text.replace("\r", "") for text in texts(tmp_path / f"{name}{ending}")] == [row["text"] for row in ROWS]


def test_arrow_files_and_streams(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    for name, new in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with new(tmp_path / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table)
        assert texts(tmp_path / f"{name}.arrow") == [row["text"] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", json.dumps(ROWS).encode(), "a JSON array; valid: one JSON object a line, or the array in a file that ends in .json"),
        ("a.json", b'{\n "rows": []}', "one JSON object over several lines; valid: an array of objects, or one object a line"),
        ("a.json", b'[{"text": "one"}, 2]', "row 2: a JSON number, not an object; valid: an array of objects"),
        ("a.jsonl", b'{"text": "one", "n": ' + b"9" * 5000 + b"}", "line 1: a number of too many digits"),
        ("a.csv", b"text,id\none,1\ntwo\n", "row 2: 1 fields, where the header has 2"),
        ("a.csv", b'text\n"one\n', "not CSV (unexpected end of data)"),
        ("a.csv", b"text\n\xff\n", "not UTF-8"),
        ("a.csv", b"text,id,text\none,1,two\n", "its header has 'text' more than once"),
        ("a.jsonl.zst", b"{}", "cannot be read (ZSTD decompress failed"),
        ("a.jsonl.zst", pa.compress(LINES * 99, "zstd", asbytes=True)[:-9], "cannot be read (Truncated"),
        ("a.parquet", LFS, "a Git-LFS pointer, not the file itself; fetch it with `git lfs pull` in {root}"),
        ("a.jsonl", LFS, "a Git-LFS pointer, not the file itself"),
        ("a.txt", LFS, "a Git-LFS pointer, not the file itself"),
    ],
)
def test_what_is_no_file_of_rows(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message.format(root=tmp_path))) as caught:
        texts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_columns_that_nobody_needs_are_not_read(tmp_path: Path) -> None:
    """Python has no value for the times of these columns."""
    columns = {"text": ["one"], "day": pa.array([5_000_000], pa.date32()), "took": pa.array([123], pa.duration("ns"))}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["one"]
    with pytest.raises(InputError, match=r"cannot be read .*valid: text, numbers"):
        texts(tmp_path / "a.parquet", "day")
    with pytest.raises(InputError, match="Fields there: text, day, took"):
        texts(tmp_path / "a.parquet", "txt")


SNAPSHOT = ("README.md", "LICENSE", "data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test-00000-of-00001.jsonl")


@pytest.mark.parametrize(
    ("names", "split", "files", "left_out"),
    [
        (
            SNAPSHOT,
            "train",
            ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"],
            "1 LICENSE, 1 README.md, 1 test-00000-of-00001.jsonl",
        ),
        (
            ("train_sft-00000-of-00001.jsonl", "test_sft-00000-of-00001.jsonl"),
            "test_sft",
            ["test_sft-00000-of-00001.jsonl"],
            "1 train_sft-00000-of-00001.jsonl",
        ),
        (("en/val.jsonl", "en/train.jsonl"), "validation", ["en/val.jsonl"], "1 train.jsonl"),
        (("train/a.jsonl", "dev/a.jsonl"), "train", ["train/a.jsonl"], "1 a.jsonl"),
        (("train.jsonl", "contest.jsonl", "dataset_infos.json"), None, ["contest.jsonl", "train.jsonl"], "1 dataset_infos.json"),
        (("a.jsonl", "notes.txt", "readme.md"), None, ["a.jsonl", "notes.txt"], "1 readme.md"),
        (("README.md", "testing.md", "training.md", "a.bin", "b.bin"), None, ["README.md", "testing.md", "training.md"], "2 .bin"),
    ],
)
def test_directories_as_the_hub_has_them(
    tmp_path: Path, names: tuple[str, ...], split: str | None, files: list[str], left_out: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "one"}\n')
    found = find_source(str(tmp_path), key=KEY, split=split)
    assert [str(file.relative_to(tmp_path)) for file in found.files] == files
    assert found.left_out_by_kind() == left_out


def test_several_splits_ask_for_one(tmp_path: Path) -> None:
    for name in SNAPSHOT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "one"}\n')
    with pytest.raises(InputError, match=re.escape(f"it has the splits test, train (2 files); choose one with {KEY}.split")):
        source_files(str(tmp_path), key=KEY)
    with pytest.raises(InputError, match=re.escape(f"{KEY}.split=trian: no such split in {tmp_path}; valid: test, train (2 files). Did")):
        source_files(str(tmp_path), key=KEY, split="trian")
    assert len(source_files(f"{tmp_path}/**/*.jsonl", key=KEY)) == 3


def test_links_to_directories_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a.txt").write_text("one")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "data").symlink_to(tmp_path / "blobs")
    (tmp_path / "blobs" / "loop").symlink_to(tmp_path / "snapshot")
    assert texts(tmp_path / "snapshot") == ["one"]
