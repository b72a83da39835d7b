"""YAML that people write."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness.config.errors import InputError
from harness.config.load import load_given_file
from harness.config.user_yaml import read_mapping

VALUES = [
    "1e-4",
    "1E5",
    "-1e-4",
    "1.",
    ".5",
    "1_000.5",
    "0x10",
    "12:30",
    "08",
    "0899",
    "0_9",
    "017",
    "1e5",
    "1.5e+3",
    "2026-01-01",
    "yes",
    "~",
    ".nan",
    "-.inf",
    "1.2.3",
    "${a.b}",
]


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "given.yaml"
    path.write_text(text)
    return read_mapping(path, holds="keys")


@pytest.mark.parametrize("value", VALUES)
def test_values_are_read_as_hydra_reads_its_files(tmp_path: Path, value: str) -> None:
    text = f"a: {value}\nb: [{{c: {value}}}]\n" if value[0] != "$" else f"a: {value}\n"
    assert repr(read(tmp_path, text)) == repr(OmegaConf.to_container(OmegaConf.load(StringIO(text))))


def test_an_anchor_may_be_merged(tmp_path: Path) -> None:
    assert read(tmp_path, "a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\n") == {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {b: 1, b: 2}\n", "found duplicate key b .*line 1, column 11"),
        ("a: !!set {b}\n", "could not determine a constructor for the tag 'tag:yaml.org,2002:set'"),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: [\n", "cannot be read as YAML: .*line 2"),
        ("- a\n", "expected a mapping with keys"),
        ("# nothing\n", "expected a mapping with keys"),
    ],
)
def test_what_is_no_mapping_of_plain_values_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=rf"given\.yaml: .*{problem}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("space: {optim.lr: {low: 1, high: 2}}", "a sweep file, .*harness sweep"), ("defaults: [cpt]", "an experiment, .*experiment=mine")],
)
def test_another_kind_of_file_is_no_configuration(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"mine\.yaml: {problem}"):
        load_given_file(tmp_path / "mine.yaml")
