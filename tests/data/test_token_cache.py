from __future__ import annotations

import errno
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from harness.config.errors import InputError
from harness.config.schema import DataConfig, SourceConfig
from harness.data import token_cache
from harness.data.cache_entry import is_whole, shard
from harness.data.rows import told_by_name
from harness.data.sources import read_documents
from harness.data.text_encoder import TextEncoder
from harness.data.token_cache import TokenizedDocuments, tokenize
from harness.data.tokenization import Tokenization
from harness.runs.cache import default_cache_dir
from harness.runs.machine_faults import machine_fault
from tests.data.conftest import SmallTokenizer

Stories = Callable[[range], list[str]]
WriteJsonl = Callable[[str, Iterable[str]], Path]


@pytest.fixture
def docs(write_jsonl: WriteJsonl, stories: Stories) -> Path:
    return write_jsonl("docs.jsonl", ["für alle", *stories(range(30))])


@pytest.fixture
def run(tmp_path: Path, tokenizer: Any) -> Callable[..., TokenizedDocuments]:
    def run(*files: Path, tokenizer: Any = tokenizer, append_eos: bool = True, split: bool = True, **options: Any) -> TokenizedDocuments:
        encoder = TextEncoder(tokenizer, append_eos=append_eos, split_special_tokens=split)
        return tokenize(files, "text", encoder, cache_dir=tmp_path / "cache", key="data.sources.docs", **options)

    return run


def decoded(documents: TokenizedDocuments, tokenizer: Any) -> list[str]:
    return [
        tokenizer.backend_tokenizer.decode(documents.tokens[a:b].tolist(), skip_special_tokens=False)
        for a, b in zip(documents.offsets[:-1], documents.offsets[1:], strict=True)
    ]


def test_tokens_are_the_text_with_its_end(docs: Path, run: Any, tokenizer: Any) -> None:
    documents = run(docs)
    texts = list(read_documents(str(docs), "text", key="k"))
    assert decoded(documents, tokenizer) == [text + "<|endoftext|>" for text in texts]
    assert documents.tokens.dtype == np.uint16
    assert documents.documents == len(texts) == 31
    assert documents.bytes.tolist() == [len(text.encode()) for text in texts]
    assert documents.lengths.sum() == len(documents.tokens)
    assert decoded(run(docs, append_eos=False), tokenizer) == texts


def test_the_tokenizers_own_special_tokens_are_kept_and_its_end_not_doubled(docs: Path, run: Any, tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    assert decoded(run(docs), tokenizer)[0] == "<|endoftext|>für alle<|endoftext|>"


def test_a_tokenizer_set_to_truncate_and_pad_does_neither_here(docs: Path, run: Any, tokenizer: Any) -> None:
    plain = run(docs)
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    assert run(docs).fingerprint == plain.fingerprint
    assert (run(docs, append_eos=False).lengths == plain.lengths - 1).all()
    assert tokenizer.backend_tokenizer.truncation is not None, "the caller's tokenizer stays as it was"


def test_large_vocabularies_take_four_bytes(docs: Path, run: Any, tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.add_tokens([f"<{i}>" for i in range(2**16)])
    documents = run(docs)
    assert documents.tokens.dtype == np.uint32
    assert decoded(documents, tokenizer)[0] == "für alle<|endoftext|>"


def test_equal_texts_have_equal_hashes(run: Any, write_jsonl: WriteJsonl) -> None:
    hashes = run(write_jsonl("a.jsonl", ["one", "two", "one"])).hashes
    assert hashes[0] == hashes[2] != hashes[1]


def test_the_second_time_nothing_is_read(docs: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(docs)
    monkeypatch.setattr(token_cache, "read_files", None)
    again = run(docs)
    assert again.fingerprint == first.fingerprint
    assert (again.tokens == first.tokens).all()


def test_the_fingerprint_follows_content_and_meaning_but_not_the_place(docs: Path, run: Any, tokenizer: Any, tmp_path: Path) -> None:
    original = run(docs).fingerprint
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes(docs.read_bytes())
    assert run(moved).fingerprint == original
    assert run(docs, append_eos=False).fingerprint != original
    docs.write_text(docs.read_text().replace("quick", "quack"))
    assert run(docs).fingerprint != original
    tokenizer.backend_tokenizer.add_tokens(["quick"])
    assert run(moved).fingerprint != original


def test_the_same_bytes_under_another_ending_are_read_as_what_it_says(docs: Path, run: Any, tokenizer: Any) -> None:
    """Whoever sees that rows were taken for text renames the file."""
    row = docs.read_text().splitlines()[0]
    files = {ending: docs.with_suffix(ending) for ending in (".txt", ".jsonl", ".csv")}
    for file in files.values():
        file.write_text(f"{row}\n")
    assert decoded(run(files[".txt"]), tokenizer) == [f"{row}\n<|endoftext|>"]
    assert decoded(run(files[".jsonl"]), tokenizer) == [f"{json.loads(row)['text']}<|endoftext|>"]
    with pytest.raises(InputError, match=r"docs\.csv"):
        run(files[".csv"])
    assert [told_by_name(file) for file in files.values()] == ["text", None, "csv"]
    files[".txt"].write_text("[A text](that is none)\n")
    assert told_by_name(files[".txt"]) is None, "its fingerprint is the one that it always had"


def test_a_warm_cache_on_a_read_only_disk_is_read(docs: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(docs, (1e9, 1e9))
    first = run(docs)

    def read_only(*args: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for place in ("tempfile.TemporaryFile", "harness.data.cache_entry.hold", "harness.data.content_hash.write_text"):
        monkeypatch.setattr(place, read_only)
    assert run(docs, verify=True).fingerprint == first.fingerprint
    with pytest.raises(InputError, match=r"^data\.cache_dir=.*cache/tokens: cannot be written: Read-only file system"):
        run(docs, append_eos=False)


def test_content_is_hashed_again_only_when_a_file_changed(docs: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(docs, (1e9, 1e9))
    first = run(docs)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert run(docs).fingerprint == first.fingerprint
    docs.write_text(docs.read_text())
    with pytest.raises(TypeError):
        run(docs)


def test_progress_ends_at_the_size_of_the_files(run: Any, write_jsonl: WriteJsonl, stories: Stories) -> None:
    files = [write_jsonl(name, stories(numbers)) for name, numbers in (("a.jsonl", range(1500)), ("b.jsonl", range(1500, 3000)))]
    seen: list[tuple[int, int]] = []
    run(*files, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == (sum(file.stat().st_size for file in files),) * 2


def test_builders_at_the_same_time_build_once(docs: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = []
    read_files = token_cache.read_files

    def slowly(*args: Any, **kwargs: Any) -> Any:
        builds.append(1)
        time.sleep(0.2)
        return read_files(*args, **kwargs)

    monkeypatch.setattr(token_cache, "read_files", slowly)
    with ThreadPoolExecutor(4) as pool:
        fingerprints = {future.result().fingerprint for future in [pool.submit(run, docs) for _ in range(4)]}
    assert len(builds) == len(fingerprints) == 1


KILLED = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from tokenizers import Tokenizer
from harness.data.text_encoder import TextEncoder
from harness.data.token_cache import tokenize
tokenizer = SimpleNamespace(backend_tokenizer=Tokenizer.from_file(sys.argv[1]), eos_token_id=0)
tokenize([Path(sys.argv[2])], "text", TextEncoder(tokenizer, append_eos=True), cache_dir=Path(sys.argv[3]), key="k",
         progress=lambda done, total: os.kill(os.getpid(), 9))
"""


def test_a_killed_builder_leaves_nothing_that_is_trusted(docs: Path, run: Any, tokenizer_directory: Path, tmp_path: Path) -> None:
    arguments = [tokenizer_directory / "tokenizer.json", docs, tmp_path / "cache"]
    assert subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False).returncode == -9
    assert [path.suffix.partition("-")[0] for path in (tmp_path / "cache" / "tokens").iterdir() if path.is_dir()] == [".build"]
    documents = run(docs)
    assert documents.documents == 31
    assert [path for path in (tmp_path / "cache" / "tokens").iterdir() if path.is_dir()] == [documents.directory]


# The last: numpy reads the header of its files as Python.
@pytest.mark.parametrize(
    ("name", "content"), [("tokens.bin", b"0123456789"), ("bytes.npy", b""), ("bytes.npy", b"\x93NUMPY\x01\x00\x02\x00{(")]
)
def test_an_entry_cut_short_is_made_again(name: str, content: bytes, docs: Path, run: Any) -> None:
    first = run(docs)
    whole = first.tokens.tolist()
    (first.directory / name).write_bytes(content)
    assert run(docs).tokens.tolist() == whole


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "tokens.bin").write_bytes(bytes((entry / "tokens.bin").stat().st_size)),
        lambda entry: (entry / "hashes.npy").write_bytes((entry / "hashes.npy").read_bytes()[:-1] + b"x"),
        lambda entry: (entry / "meta.json").write_text('{"dtype": "uint16", "doc'),
        lambda entry: (entry / "meta.json").write_text('{"dtype": 5, "documents": 31, "tokens": 1}'),
        lambda entry: (entry / "meta.json").write_text('{"dtype": [], "documents": 31, "tokens": 1}'),
        lambda entry: (entry / "meta.json").write_bytes(b""),
        lambda entry: (entry / "offsets.npy").unlink(),
        lambda entry: as_pipe(entry / "tokens.bin"),
    ],
)
def test_a_damaged_entry_is_made_again(docs: Path, run: Any, damage: Callable[[Path], object]) -> None:
    first = run(docs)
    whole = first.tokens.tolist()
    damage(first.directory)
    assert run(docs, verify=True).tokens.tolist() == whole
    assert is_whole(first.directory)


def as_pipe(path: Path) -> None:
    """Whoever opens it to read waits for a writer."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy", "meta.json"])
def test_a_pipe_in_the_cache_is_not_waited_for(name: str, docs: Path, run: Any, tmp_path: Path) -> None:
    os.utime(docs, (1, 1))
    first = run(docs)
    whole = first.tokens.tolist()
    as_pipe(first.directory / name)
    for entry in (tmp_path / "cache" / "files").iterdir():
        as_pipe(entry)
    assert run(docs).tokens.tolist() == whole
    assert is_whole(first.directory)


def test_a_whole_entry_stays(docs: Path, run: Any) -> None:
    written = (run(docs).directory / "meta.json").stat().st_mtime_ns
    assert (run(docs, verify=True).directory / "meta.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("left", [b"", b"\xff", b"0123"])
def test_a_damaged_hash_does_not_make_two_files_one(run: Any, write_jsonl: WriteJsonl, tmp_path: Path, left: bytes) -> None:
    files = [write_jsonl(f"{name}.jsonl", [name]) for name in ("one", "two")]
    for file in files:
        os.utime(file, (1, 1))
    before = [run(file).fingerprint for file in files]
    for entry in (tmp_path / "cache" / "files").iterdir():
        entry.write_bytes(left)
    assert [run(file).fingerprint for file in files] == before


def test_a_full_disk_is_named_also_where_a_file_is_closed_after_another_one_failed() -> None:
    def written() -> None:
        with shard(Path("/dev/full"), {}) as stream:
            stream.write(b"what is in the buffer")
            raise ValueError("of another file")

    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        written()


def test_a_full_cache_names_its_disk_and_leaves_nothing(docs: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("harness.data.cache_entry.os.fsync", fsync)
    with pytest.raises(OSError, match="No space left") as caught:
        run(docs)
    fault = machine_fault(caught.value)
    assert fault is not None
    assert ".bin: No space left on device; the disk at /" in str(fault)
    assert [path for path in (tmp_path / "cache" / "tokens").iterdir() if path.is_dir()] == []


def test_a_failed_build_leaves_no_entry(run: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"text": "one"}\n' * 1000)[:-20])
    with pytest.raises(InputError, match="broken gzip"):
        run(broken)
    assert [path for path in (tmp_path / "cache" / "tokens").iterdir() if path.is_dir()] == []


def test_pickling_maps_the_cache_again(docs: Path, run: Any) -> None:
    documents = run(docs)
    pickled = pickle.dumps(documents)
    assert len(pickled) < 1000
    assert (pickle.loads(pickled).tokens == documents.tokens).all()


def test_a_cache_that_cannot_be_written_is_bad_input(docs: Path, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^data\.cache_dir=.*/file/cache/\w+: cannot be written"):
        tokenize([docs], "text", TextEncoder(tokenizer, append_eos=True), cache_dir=tmp_path / "file" / "cache", key="k")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "/from/environment")
    assert default_cache_dir("/configured") == Path("/configured")
    assert default_cache_dir(None) == Path("/from/environment")
    monkeypatch.delenv("HARNESS_CACHE")
    assert default_cache_dir(None) == Path.home() / ".cache" / "harness"


def test_meta_is_readable(docs: Path, run: Any) -> None:
    documents = run(docs)
    meta = json.loads((documents.directory / "meta.json").read_text())
    sums = meta.pop("checksums")
    assert meta == {"dtype": "uint16", "documents": 31, "tokens": len(documents.tokens), "largest_id": int(documents.tokens.max())}
    assert sorted(sums) == ["bytes.npy", "hashes.npy", "offsets.npy", "tokens.bin"]
    assert is_whole(documents.directory)
    (documents.directory / "meta.json").write_text(json.dumps(meta))
    assert not is_whole(documents.directory), "nobody knows"


def test_tokenizers_that_append_their_own_copy_of_the_backend_agree(docs: Path, run: Any, tokenizer: Any) -> None:
    original = run(docs).fingerprint
    tokenizer.backend_tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    assert run(docs).fingerprint == original


GOOD_ROW = {"text": "the quick fox", "prompt": "the quick?", "completion": "fox"}
BAD_LINES = ['{"text": 3, "prompt": "a", "completion": 1}', "{", '{"other": "a"}']


@pytest.mark.parametrize("kind", ["texts", "conversations"])
def test_rows_that_cannot_be_used_are_left_out_and_counted(kind: Any, tmp_path: Path, chat_tokenizer: Any, caplog: Any) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(GOOD_ROW | {"text": f"{n} {GOOD_ROW['text']}", "completion": f"{n}"}) for n in range(17)]
    file.write_text("\n".join([*lines[:9], *BAD_LINES, *lines[9:]]))

    def tokens(**options: Any) -> TokenizedDocuments:
        config = DataConfig(
            sources={"docs": SourceConfig(path=str(file))}, cache_dir=str(tmp_path / "cache"), chat_template="chatml", **options
        )
        return Tokenization(config, chat_tokenizer, documents=kind).of_source("docs")

    with pytest.raises(InputError, match=r"line 10: .*; data.malformed=skip leaves such rows out$"):
        tokens()
    with pytest.raises(InputError, match=r"3 of 20 rows cannot be used, more than data\.max_malformed_share=0\.01; first: .*line 10: "):
        tokens(malformed="skip")
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        found = tokens(malformed="skip", max_malformed_share=0.2)
        assert (found.documents, found.left_out) == (17, 3)
        assert [re.search(r"line \d+", problem)[0] for problem in found.left_out_first] == ["line 10", "line 11", "line 12"]  # type: ignore[index]
        assert "data.sources.docs: 3 of 20 rows left out (data.malformed=skip); first: " in caplog.text


def test_a_row_that_the_template_cannot_render_can_be_left_out(tmp_path: Path, chat_tokenizer: Any) -> None:
    file = tmp_path / "rows.jsonl"
    calling = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"name": "f"}]}]
    file.write_text(
        "\n".join([json.dumps({"messages": calling}), json.dumps({"messages": [*calling[:1], {"role": "assistant", "content": "b"}]})])
    )
    options: dict[str, Any] = {
        "cache_dir": str(tmp_path / "cache"),
        "chat_template": "alpaca",
        "malformed": "skip",
        "max_malformed_share": 0.5,
    }
    config = DataConfig(sources={"docs": SourceConfig(path=str(file))}, **options)
    found = Tokenization(config, chat_tokenizer, documents="conversations").of_source("docs")
    assert (found.documents, found.left_out) == (1, 1)
    assert "it has no place for tool calls" in found.left_out_first[0]


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("pieces", [True, False])
def test_control_tokens_in_plain_text(
    split: bool, pieces: bool, chat_tokenizer: Any, write_jsonl: WriteJsonl, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of those that are declared special and of those that only look like it; with a beginning of text that the tokenizer adds."""
    backend = chat_tokenizer.backend_tokenizer
    backend.add_tokens(["<|plain|>", "<think>"])
    if not pieces:
        monkeypatch.setattr("harness.data.text_encoder.piece_encoder", lambda backend, eos: None)
        start = backend.token_to_id("<|im_start|>")
        backend.post_processor = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)])
    texts = ["<|im_start|>the quick<|im_end|> fox<|plain|>", "<think>rain</think>", "rain"]
    documents = run(write_jsonl("typed.jsonl", texts), tokenizer=SmallTokenizer(backend), split=split)
    controls = {backend.token_to_id(token) for token in ("<|im_start|>", "<|im_end|>", "<|plain|>")}
    found = [controls.intersection(documents.tokens[a:b].tolist()) for a, b in pairwise(documents.offsets)]
    own = set() if pieces else {backend.token_to_id("<|im_start|>")}
    assert found == [own if split else controls, own, own]
    assert decoded(documents, SmallTokenizer(backend))[0].count("<|im_start|>") == (2 if split and not pieces else 1)
    assert backend.token_to_id("<think>") in documents.tokens  # no control token
    assert documents.with_control_tokens == 1
