"""generations.jsonl: each text of a step once, whatever attempts repeated or lost; what is damaged is left out."""

from __future__ import annotations

import json
from pathlib import Path

from harness.runs.generations import GenerationsFile, WrittenText


def written(draw: int, text: str = "one", **more: object) -> WrittenText:
    return WrittenText(**{"set": "sums", "id": "a", "prompt": "p", "draw": draw, "text": text, "tokens": 1, "finish": "stop", **more})  # type: ignore[arg-type]


def test_texts_are_read_back_by_step(tmp_path: Path) -> None:
    file = GenerationsFile(tmp_path / "generations.jsonl")
    assert file.by_step() == {}
    last, first = [written(0, "ü\n</script>", score=1.0)], [written(0), written(1)]
    file.append(10, last)
    file.append(0, first)
    assert list(file.by_step().items()) == [(0, first), (10, last)]


def test_a_step_that_is_written_again_is_there_once_and_becomes_whole(tmp_path: Path) -> None:
    file = GenerationsFile(tmp_path / "generations.jsonl")
    texts = [written(0), written(1), written(0, set="other")]
    file.append(0, texts)
    file.append(5, texts)
    content = file.path.read_bytes()
    file.append(5, texts)
    assert file.path.read_bytes() == content
    # A crash tore the last line but one byte of its end.
    file.path.write_bytes(content[:-20])
    file.append(5, texts)
    assert file.by_step() == {0: texts, 5: texts}
    assert file.path.read_bytes().count(b'"step": 5') == 4


def test_nothing_written_makes_no_file(tmp_path: Path) -> None:
    file = GenerationsFile(tmp_path / "generations.jsonl")
    file.append(0, [])
    assert not file.path.exists()


def test_what_is_no_row_of_a_text_is_left_out(tmp_path: Path) -> None:
    file = GenerationsFile(tmp_path / "generations.jsonl")
    file.append(0, [written(0)])
    row = json.loads(file.path.read_text())
    broken = [
        {**row, "text": 3},
        {**row, "step": -1},
        {**row, "draw": True},
        {**row, "score": "high"},
        {**row, "more": 1},
        {"step": 0},
        [1],
    ]
    with file.path.open("a") as stream:
        stream.writelines(json.dumps(one) + "\n" for one in broken)
    assert file.by_step() == {0: [written(0)]}
