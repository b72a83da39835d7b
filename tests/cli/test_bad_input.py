"""Bad input ends in one clear message that names the key, the value and what would be valid; exit code 2; nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from harness.config.errors import InputError
from harness.config.writable import check_output
from tests.support.command import Done, call_harness, run_harness
from tests.support.corpus import TinyText
from tests.support.warm import HARNESS

SWEEP = {
    "objective": {"metric": "val/domain/loss"},
    "space": {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
    "budget": {"trials": 2},
}


def refused(done: Done, *fragments: str) -> None:
    """It was bad input, said once and with every fragment, and nothing else was said."""
    assert done.rc == 2, done
    assert done.stdout == "", done
    assert "Traceback" not in done.stderr, done
    for fragment in fragments:
        assert fragment in done.stderr, f"{fragment!r} is not in\n{done}"
    messages = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, done


@dataclass(frozen=True)
class Place:
    """A working directory with runs and cache of its own."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    def harness(self, *arguments: str | Path, **env: str) -> Done:
        """Within this process: what is refused is refused before anything else starts."""
        return call_harness(*arguments, cwd=self.path, env={**self._own, **env})

    def process(self, *arguments: str | Path) -> Done:
        return run_harness(*arguments, cwd=self.path, env=self._own)

    @property
    def _own(self) -> dict[str, str]:
        return {"HARNESS_RUNS": str(self.runs), "HARNESS_CACHE": str(self.path / "cache")}

    def is_untouched(self) -> bool:
        """Whether no run and no study was left behind."""
        return not self.runs.exists() or not any(self.runs.iterdir())

    def file(self, name: str, content: bytes) -> Path:
        path = self.path / name
        path.write_bytes(content)
        return path

    def sweep(self, name: str, base: list[str], **changes: object) -> Path:
        path = self.path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"base": base, **SWEEP, **changes}))
        return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    path = tmp_path / "place"
    path.mkdir()
    return Place(path)


# A run: overrides that are wrong for every verb that reads a configuration.

WRONG_OVERRIDES = {
    "unknown key": (["optim.learning_rate=1"], ["optim.learning_rate", "lr", "weight_decay"]),
    "misspelt key": (["optim.weigth_decay=1"], ["optim.weigth_decay", "Did you mean 'optim.weight_decay'?"]),
    "unknown group": (["scheduler=wsd"], ["scheduler", "Did you mean 'schedule'?"]),
    "unknown choice": (["schedule=wds"], ["schedule=", "'wds'", "Did you mean 'wsd'?", "cosine"]),
    "not a number": (["optim.lr=fast"], ["optim.lr=fast", "a number > 0"]),
    "negative": (["optim.weight_decay=-1"], ["optim.weight_decay=-1", ">= 0"]),
    "warm-up too long": (["schedule.warmup=5"], ["schedule.warmup=5", "4 steps"]),
    "missing file": (["data.sources.domain.path=nowhere.jsonl"], ["data.sources.domain.path=nowhere.jsonl", "no such file"]),
    "context too long": (["data.context_length=64"], ["data.context_length=64", "model.max_context=32"]),
    "no such model": (["model=pretrained", "model.path=./nowhere"], ["model.path=./nowhere", "no such directory"]),
    "no such tokenizer": (["tokenizer.path=./nowhere"], ["tokenizer.path=./nowhere", "no such directory"]),
    "not an override": (["optim.lr"], ["'optim.lr'", "KEY=VALUE"]),
}


@pytest.mark.parametrize(("overrides", "fragments"), WRONG_OVERRIDES.values(), ids=WRONG_OVERRIDES.keys())
def test_train_refuses_wrong_overrides(place: Place, tiny: list[str], overrides: list[str], fragments: list[str]) -> None:
    refused(place.harness("train", *tiny, *overrides), *fragments)
    assert place.is_untouched()


@pytest.mark.parametrize("verb", ["show", "data"])
@pytest.mark.parametrize("name", ["misspelt key", "not a number", "warm-up too long", "missing file"])
def test_with_json_nothing_stands_on_stdout_for_wrong_overrides(place: Place, tiny: list[str], verb: str, name: str) -> None:
    overrides, fragments = WRONG_OVERRIDES[name]
    refused(place.harness(verb, *tiny, *overrides, "--json"), *fragments)


@pytest.mark.parametrize("name", ["misspelt key", "negative", "warm-up too long", "missing file"])
def test_sweep_refuses_a_wrong_base(place: Place, tiny: list[str], name: str) -> None:
    overrides, fragments = WRONG_OVERRIDES[name]
    of_the_file = place.harness("sweep", place.sweep("question", [*tiny, *overrides]))
    refused(of_the_file, "question.yaml", *fragments)
    assert "command line" not in of_the_file.stderr
    refused(place.harness("sweep", place.sweep("question", tiny), *overrides), *fragments)
    assert place.is_untouched()


def test_a_model_directory_without_weights(place: Place, tiny_text: TinyText, tiny_model: Path) -> None:
    model = place.path / "weightless"
    shutil.copytree(tiny_model, model, ignore=shutil.ignore_patterns("*.safetensors"))
    refused(place.harness("train", *tiny_text.pretrained(model)), f"model.path={model}", "no weights", "safetensors")
    assert place.is_untouched()


def test_a_context_longer_than_a_pretrained_model_has(place: Place, tiny_text: TinyText, tiny_model: Path) -> None:
    done = place.harness("train", *tiny_text.pretrained(tiny_model), "data.context_length=64")
    refused(done, "data.context_length=64", "32 tokens", "config.json")
    assert place.is_untouched()


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "sweep", "best", "trian"])
def test_a_process_of_its_own_says_the_same(place: Place, tiny: list[str], verb: str) -> None:
    """The other tests call the command within this process."""
    bad_line = f"data.sources.domain.path={place.file('d.jsonl', GOOD + b'{')}"
    arguments: dict[str, list[str | Path]] = {
        "train": [*tiny, bad_line],
        "sweep": [place.sweep("question", tiny, budget={})],
        "best": ["nothere", "--json"],
    }
    done = place.process(verb, *arguments.get(verb, []))
    assert (done.rc, done.stdout, "Traceback" in done.stderr) == (2, "", False)
    assert done == place.harness(verb, *arguments.get(verb, []))


# Data that is found to be bad only when it is read.

GOOD = b'{"text": "a good line"}\n'
# Files that are broken in other ways are in tests/data/test_sources.py.
BAD_DATA: dict[str, tuple[str, bytes, list[str]]] = {
    "empty": ("d.jsonl", b"", ["no document with any text", "d.jsonl"]),
    "broken line": ("d.jsonl", GOOD + b'{"text": "half\n', ["d.jsonl, line 2", "not valid JSON", "one JSON object a line"]),
    "missing field": ("d.jsonl", GOOD + b'{"txet": "b"}\n', ["d.jsonl, line 2", "no field 'text'", "txet"]),
    "not UTF-8": ("d.jsonl", GOOD + b'{"text": "caf\xe9"}\n', ["d.jsonl, line 2", "not UTF-8", "0xe9"]),
    "text not UTF-8": ("d.txt", b"caf\xe9", ["d.txt", "not UTF-8", "0xe9"]),
}


@pytest.mark.parametrize(("name", "content", "fragments"), BAD_DATA.values(), ids=BAD_DATA.keys())
def test_train_refuses_bad_data_and_leaves_no_run(place: Place, tiny: list[str], name: str, content: bytes, fragments: list[str]) -> None:
    done = place.harness("train", *tiny, f"data.sources.domain.path={place.file(name, content)}")
    refused(done, "data.sources.domain", *fragments)
    assert place.is_untouched()


def test_bad_validation_data_is_bad_data(place: Place, tiny: list[str]) -> None:
    path = place.file("v.jsonl", b'{"text": 3}\n')
    done = place.harness("train", *tiny, f"data.validation.other.path={path}", "tracking=wandb")
    refused(done, "data.validation.other", "v.jsonl, line 1", "number", "string")
    assert place.is_untouched()


@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_that_the_user_named_is_left_as_it_was(place: Place, tiny: list[str], exists: bool) -> None:
    path = place.file("d.jsonl", b"{")
    given = place.path / "here" / "run"
    if exists:
        given.mkdir(parents=True)
    refused(place.harness("train", *tiny, f"data.sources.domain.path={path}", "--dir", given), "d.jsonl, line 1")
    assert given.exists() == exists
    assert not exists or not any(given.iterdir())


def test_data_prints_no_json_for_bad_data(place: Place, tiny: list[str]) -> None:
    path = place.file("d.jsonl", GOOD + b"{\n")
    refused(place.harness("data", *tiny, f"data.sources.domain.path={path}", "--json"), "data.sources.domain", "d.jsonl, line 2")


def test_sweep_refuses_bad_data_before_there_is_a_study(place: Place, tiny: list[str]) -> None:
    path = place.file("d.jsonl", GOOD + b"{\n")
    done = place.harness("sweep", place.sweep("question", tiny), f"data.sources.domain.path={path}")
    refused(done, "data.sources.domain", "d.jsonl, line 2")
    assert place.is_untouched()


@pytest.mark.slow
def test_a_run_that_cannot_be_resumed_stays(place: Place, tiny: list[str], tiny_text: TinyText) -> None:
    """What a bad attempt may remove is only what it made itself."""
    source = place.file("domain.jsonl", tiny_text.domain.read_bytes())
    run = place.path / "run"
    assert place.process("train", *tiny, f"data.sources.domain.path={source}", "--dir", run).rc == 0
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "state": "waiting"}))
    source.unlink()
    refused(place.harness("resume", run), f"data.sources.domain.path={source}", "no such file")
    assert (run / "config.yaml").exists()
    assert list((run / "checkpoints").iterdir())
    refused(place.harness("train", *tiny, "--dir", run), f"--dir={run}", "not empty", "resume")
    assert (run / "config.yaml").exists()


# Studies and runs that do not exist.


@pytest.mark.parametrize("arguments", [["status"], ["stop"], ["best"], ["status", "--json"], ["best", "--json"], ["best", "--export", "x"]])
def test_unknown_studies(place: Place, arguments: list[str]) -> None:
    verb, *options = arguments
    refused(place.harness(verb, "nothere", *options), "unknown study 'nothere'", "no study")
    assert not (place.path / "conf").exists()


def test_an_unknown_study_names_the_nearest(place: Place) -> None:
    study = place.runs / "question"
    study.mkdir(parents=True)
    (study / "sweep.yaml").write_text("{}")
    refused(place.harness("status", "qestion"), "unknown study 'qestion'", "Did you mean 'question'?")


@pytest.mark.parametrize("options", [[], ["--json"], ["--csv", "out.csv"]])
def test_compare_with_something_unknown(place: Place, options: list[str]) -> None:
    refused(place.harness("compare", "nothere", *options), "'nothere'", "unknown")
    assert not (place.path / "out.csv").exists()


def test_a_place_that_takes_no_file_is_refused_before_the_page_is_made() -> None:
    with pytest.raises(InputError, match=r"--html=/proc/x\.html: cannot be written"):
        check_output("--html", Path("/proc/x.html"))


def test_a_directory_that_is_gone_is_one_message(tmp_path: Path) -> None:
    done = subprocess.run(["bash", "-c", f'rmdir "$PWD" && exec {HARNESS} ls'], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the directory in which this was called is gone; valid: one that is there (cd)\n"


def test_a_closed_stdin_has_nothing_to_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    refused(place.harness("generate", "nothere"), "nothere")


def test_resume_and_export_of_an_unknown_run(place: Place) -> None:
    refused(place.harness("resume", "nothere"), "unknown run 'nothere'")
    refused(place.harness("export", "nothere", "out"), "unknown run 'nothere'")
    assert not (place.path / "out").exists()


# Sweeps that make no sense.

WRONG_SPACES = {
    "unknown key": ({"optim.learning": {"low": 1, "high": 2}}, ["optim.learning", "lr"]),
    "low > high": ({"optim.lr": {"low": 0.1, "high": 0.01}}, ["space.optim.lr", "low=0.1", "high=0.01"]),
    "log from 0": ({"optim.lr": {"low": 0, "high": 0.1, "log": True}}, ["space.optim.lr", "low=0", "> 0 on a log scale"]),
    "log below 0": ({"optim.lr": {"low": -1, "high": 0.1, "log": True}}, ["space.optim.lr", "low=-1", "> 0 on a log scale"]),
    "out of range": ({"optim.lr": {"low": -1, "high": 0.1}}, ["space.optim.lr", "optim.lr=-1", "> 0"]),
    "unknown choice": ({"schedule": {"choices": ["cosine", "wds"]}}, ["space.schedule", "'wds'", "Did you mean 'wsd'?"]),
    "unknown condition": (
        {"schedule": {"choices": ["wsd"]}, "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedul": "wsd"}}},
        ["space.schedule.decay_fraction.when", "'schedul'", "Did you mean 'schedule'?"],
    ),
    "impossible at an end": ({"schedule.warmup": {"low": 1, "high": 9}}, ["space.schedule.warmup", "schedule.warmup=9", "4 steps"]),
    "empty": ({}, ["space", "empty"]),
}


@pytest.mark.parametrize(("space", "fragments"), WRONG_SPACES.values(), ids=WRONG_SPACES.keys())
def test_sweep_refuses_impossible_spaces(place: Place, tiny: list[str], space: dict[str, object], fragments: list[str]) -> None:
    refused(place.harness("sweep", place.sweep("question", tiny, space=space)), *fragments)
    assert place.is_untouched()


WRONG_SWEEPS: dict[str, tuple[dict[str, object], list[str]]] = {
    "misspelt section": ({"objektive": {}}, ["objektive", "question.yaml"]),
    "no such metric": (
        {"objective": {"metric": "val/domian/loss"}},
        ["objective.metric", "val/domian/loss", "Did you mean 'val/domain/loss'?"],
    ),
    "no budget": ({"budget": {}}, ["budget", "trials, tokens"]),
    "budget below one trial": ({"budget": {"tokens": 100}}, ["budget.tokens=100", "512"]),
    "unknown sampler": ({"search": "tpee"}, ["search", "'tpee'", "Did you mean 'tpe'?"]),
    "limitless constraint": ({"constraints": {"val/domain/forgetting": {}}}, ["val/domain/forgetting", "max or min"]),
}


@pytest.mark.parametrize(("changes", "fragments"), WRONG_SWEEPS.values(), ids=WRONG_SWEEPS.keys())
def test_sweep_refuses_impossible_files(place: Place, tiny: list[str], changes: dict[str, object], fragments: list[str]) -> None:
    refused(place.harness("sweep", place.sweep("question", tiny, **changes)), *fragments)
    assert place.is_untouched()


def test_unknown_sweeps(place: Place) -> None:
    refused(place.harness("sweep", "quickstrat"), "unknown sweep 'quickstrat'", "Did you mean 'quickstart'?")
    refused(place.harness("sweep", "./nowhere.yaml"), "./nowhere.yaml", "no such file")
    refused(place.harness("sweep", place.file("broken.yaml", b"a: [")), "broken.yaml", "YAML")
    assert place.is_untouched()


# Places that cannot be written.


def test_a_study_directory_that_cannot_be_written(place: Place, tiny: list[str]) -> None:
    below = place.file("regular", b"") / "runs"
    done = place.harness("sweep", place.sweep("question", tiny), HARNESS_RUNS=str(below))
    refused(done, f"{below}/question", "cannot be written")


def test_a_run_directory_that_cannot_be_written(place: Place, tiny: list[str]) -> None:
    below = place.file("regular", b"") / "runs"
    refused(place.harness("train", *tiny, HARNESS_RUNS=str(below)), str(below), "HARNESS_RUNS")
    refused(place.harness("train", *tiny, "--dir", below), f"--dir={below}")


def test_a_cache_that_cannot_be_written(place: Place, tiny: list[str]) -> None:
    below = place.file("regular", b"") / "cache"
    refused(place.harness("train", *tiny, HARNESS_CACHE=str(below)), f"data.cache_dir={below}", "cannot be written")
    assert place.is_untouched()


def test_a_directory_of_configuration_that_does_not_exist(place: Place, tiny: list[str]) -> None:
    refused(place.harness("--config-dir", "nowhere", "show", *tiny, "--json"), "--config-dir=", "nowhere", "no such directory")


def test_files_of_compare_that_cannot_be_written(place: Place, tiny: list[str]) -> None:
    run = place.path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("seed: 0\n")
    refused(place.harness("compare", run, "--csv", "nowhere/out.csv"), "--csv=nowhere/out.csv", "no such directory")


# Another sweep under the same name.


@pytest.mark.slow
def test_a_second_different_sweep_under_the_same_name(place: Place, tiny: list[str]) -> None:
    sweep = place.sweep("question", tiny, budget={"trials": 1}, launcher={"name": "local", "workers": 1})
    done = place.process("sweep", sweep)
    assert done.rc == 0, done
    before = _content(place.runs / "question")
    place.sweep("question", tiny, space={"optim.lr": {"low": 1e-3, "high": 1e-1, "log": True}}, budget={"trials": 1})
    done = place.harness("sweep", sweep)
    refused(done, "question", "optim.lr.low", "0.0001", "0.001")
    assert _content(place.runs / "question") == before


def _content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# Typer's own: no verb, a wrong option, a missing argument.


@pytest.mark.parametrize("arguments", [["trian"], ["logs"], ["train", "--dri", "x"], ["sweep", "quickstart", "--workers", "0"]])
def test_a_wrong_command_line(place: Place, arguments: list[str]) -> None:
    done = place.harness(*arguments)
    assert done.rc == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert re.search(r"[Uu]sage", done.stderr)
