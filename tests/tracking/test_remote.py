"""Runs read back from W&B by the real client, beside the files that they were logged from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.runs.confirmation_plan import ConfirmationPlan, write_plan
from harness.runs.directory import StudyDirectory
from harness.tracking.remote_path import RemotePath, is_remote, parse_remote
from tests.report.synthetic_study import write_study
from tests.support.fake_wandb import FakeWandb

HERE = {"study", "number", "run", "state", "params", "objective", "feasible", "pareto", "metrics", "seconds", "tokens", "attempts", "step"}
HERE |= {"parent", "rung", "devices", "reason"}


@dataclass(frozen=True)
class Logged:
    """Runs that are in W&B as well as in files."""

    backend: FakeWandb
    environment: dict[str, str]
    """Of a process that finds both."""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """Study "small" in project "here"; study "sure" and its confirmation in project "there"."""
    folder = tmp_path_factory.mktemp("logged")
    write_study(folder / "runs", name="small", trials=5, states={3: "pruned", 4: "failed"})
    write_study(folder / "runs", name="sure", trials=3)
    write_study(folder / "runs", name="sure-confirm", trials=4)
    planned = [{"candidate": candidate, "seed": seed} for seed in (1, 2) for candidate in (2, 0)]
    write_plan(StudyDirectory(folder / "runs" / "sure-confirm"), ConfirmationPlan("sure", None, 1, planned))
    with FakeWandb() as backend:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WANDB_")},
            **backend.environment,
            "WANDB_SILENT": "true",
            "WANDB_DIR": str(folder),
            "WANDB_CONFIG_DIR": str(folder / "config"),
            "WANDB_CACHE_DIR": str(folder / "cache"),
            "WANDB_ERROR_REPORTING": "false",
            "NETRC": str(folder / "netrc"),
            "HARNESS_RUNS": str(folder / "runs"),
        }
        script = Path(__file__).with_name("logged_study.py")
        for study, project in (("small", "here"), ("sure", "there"), ("sure-confirm", "there")):
            subprocess.run([sys.executable, str(script), str(folder / "runs" / study), project], env=environment, check=True, cwd=folder)
        backend.schema.unknown.clear()
        yield Logged(backend, environment)


def compare(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "compare", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


def document(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    found = compare(environment, *arguments, "--json")
    assert found.returncode == 0, found.stderr
    read: dict[str, Any] = json.loads(found.stdout)
    return read


@pytest.mark.slow
def test_both_sources_give_the_same_comparison(logged: Logged) -> None:
    own = document(logged.environment, "small")
    remote = document(logged.environment, "wandb:fake-entity/here/small")
    assert [{key: run[key] for key in HERE} for run in remote["runs"]] == [{key: run[key] for key in HERE} for run in own["runs"]]
    for key in ("importances", "objective", "constraints", "parameters", "pareto", "tokens"):
        assert remote[key] == own[key]
    assert remote["runs"][0]["directory"].startswith("http")


@pytest.mark.slow
def test_both_sources_give_the_same_table_with_its_curves(logged: Logged) -> None:
    own, remote = compare(logged.environment, "small"), compare(logged.environment, "wandb:fake-entity/here/small")
    assert own.stdout == remote.stdout
    assert "▁" in remote.stdout


@pytest.mark.slow
def test_a_confirmation_is_read_back_with_its_study(logged: Logged) -> None:
    own, remote = document(logged.environment, "sure"), document(logged.environment, "wandb:fake-entity/there/sure")
    assert own["confirmation"]["runs"] == {"planned": 4, "ended": 4}
    assert [candidate["values"].keys() for candidate in own["confirmation"]["candidates"]] == [{"1", "2"}] * 2
    assert remote["confirmation"] == own["confirmation"]
    told = [compare(logged.environment, place).stdout for place in ("sure", "wandb:fake-entity/there/sure")]
    assert "Over seeds:" in told[0]
    assert told[0] == told[1]


@pytest.mark.slow
def test_tags_and_filters_choose_runs(logged: Logged) -> None:
    assert {run["number"] for run in document(logged.environment, "wandb:fake-entity/here", "--tag", "odd")["runs"]} == {1, 3}
    found = document(logged.environment, "wandb:fake-entity/here", "--filter", '{"summary_metrics.step": {"$lt": 100}}')
    assert {run["state"] for run in found["runs"]} == {"pruned", "failed"}


@pytest.mark.slow
def test_project_and_entity_come_from_the_environment(logged: Logged) -> None:
    found = document({**logged.environment, "WANDB_PROJECT": "here", "WANDB_ENTITY": "fake-entity"}, "wandb:")
    assert len(found["runs"]) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        (["wandb:fake-entity/here/nothing"], {}, "no run there with group 'nothing'"),
        (["wandb:fake-entity/here"], {"WANDB_API_KEY": ""}, "wandb login"),
        (["wandb:fake-entity/here"], {"WANDB_BASE_URL": "http://127.0.0.1:9"}, "does not answer"),
        (["wandb:fake-entity/here", "--filter", "{lr"], {}, "--filter={lr: JSON as"),
        (["small", "--tag", "a"], {}, "only runs in W&B have them"),
        (["wandb:a/b/c/d/e"], {}, "no such place in W&B"),
    ],
)
def test_what_cannot_be_read_ends_in_one_message(logged: Logged, arguments: list[str], changes: dict[str, str], words: str) -> None:
    found = compare({**logged.environment, **changes}, *arguments)
    assert found.returncode == 2
    assert words in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("wandb:", (None, None, None, None)),
        ("wandb:proj", (None, "proj", None, None)),
        ("wandb:me/proj", ("me", "proj", None, None)),
        ("wandb:me/proj/study", ("me", "proj", "study", None)),
        ("wandb:me/proj/runs/abc", ("me", "proj", None, "abc")),
        ("https://wandb.example/me/proj/groups/my%20study/workspace", ("me", "proj", "my study", None)),
        ("https://wandb.example/me/proj/runs/abc?nw=x", ("me", "proj", None, "abc")),
        ("https://wandb.example/me/proj/workspace", ("me", "proj", None, None)),
    ],
)
def test_places_are_called_as_users_call_them(word: str, place: tuple[str | None, ...]) -> None:
    assert is_remote(word)
    assert parse_remote(word) == RemotePath(word, *place)


def test_a_place_that_does_not_exist_is_said() -> None:
    with pytest.raises(InputError, match="wandb:ENTITY/PROJECT"):
        parse_remote("wandb:a/b/c/d")


@pytest.mark.slow
def test_a_workspace_and_a_report_show_the_study(logged: Logged) -> None:
    found = compare(logged.environment, "wandb:fake-entity/here/small", "--workspace", "--report")
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("wrote http") == 2
    workspace, report = logged.backend.schema.views[-2:]
    assert (workspace["type"], workspace["projectName"], workspace["displayName"]) == ("project-view", "here", "small")
    spec = json.loads(workspace["spec"])
    panels = [panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]
    assert {panel["viewType"] for panel in panels} == {
        *("Parallel Coordinates Plot", "Parameter Importance", "Run History Line Plot", "Run Comparer", "Scatter Plot"),
    }
    parallel = next(panel for panel in panels if panel["viewType"] == "Parallel Coordinates Plot")["config"]["columns"]
    accessors = [column["accessor"] for column in parallel]
    assert "config:optim.value.lr" in accessors
    assert "config:schedule.value.name" in accessors
    assert accessors[-1] == "summary:val/python/loss"
    assert '"small"' in json.dumps(spec["section"]["runSets"])
    assert report["type"] == "runs"
    assert "subject to val/english/forgetting" in report["spec"]
    assert all(word in report["spec"] for word in ('"jobType"', '"small"'))


@pytest.mark.slow
def test_the_workspace_of_a_study_is_one_that_is_brought_up_to_date(logged: Logged) -> None:
    place = "wandb:fake-entity/here/small"
    addresses = [compare(logged.environment, place, "--workspace").stdout for _ in range(2)]
    assert "wrote http" in addresses[0]
    assert addresses[0].splitlines()[-1] == addresses[1].splitlines()[-1]
    [workspace] = [view for view in logged.backend.schema.views if view["type"] == "project-view"]
    assert [section["name"] for section in json.loads(workspace["spec"])["section"]["panelBankConfig"]["sections"]][:1] == ["Search"]
