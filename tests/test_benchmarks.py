"""The scripts under benchmarks/: what they import exists, and a small run of each prints its figures."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import pages

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))
PARTS = {"workload"}
"""What is no script."""

NUMBER = r"\d[\d.,]*"
ADAPTATION = ["--model", "my-model", "--target", "docs.jsonl", "--general", "general.jsonl"]
TABLE = str(ROOT / "benchmarks" / "tables" / "stories260k.csv")

SMALL: dict[str, tuple[list[str], list[str]]] = {
    "chunked_loss": (
        ["--context", "256", "--vocabulary", "1000", "--hidden", "32", "--chunk", "64", "--rounds", "1"],
        [r"\| 256 \| plain \| \d+ \| 1.00", r"\| 256 \| chunks of 64 \| \d+ \| \d"],
    ),
    "command_line": (["--repeats", "1"], [rf"harness --help +median {NUMBER} s", rf"completion.* median {NUMBER} s"]),
    "compare": (["--trials", "5", "--rounds", "1"], [rf"table +median +{NUMBER} s", rf"--html +median +{NUMBER} s", r"the page has [1-9]"]),
    "confirmed_search": (
        ["--tasks", "stories260k_long", "made_up_root", "--seeds", "1", "--runs", "14", "--searches", "random", "tpe confirms itself"],
        [r"\| stories260k_long \| random \| [01] of 1 \|", r"\| made_up_root \| tpe confirms itself \| [01] of 1 \|"],
    ),
    "confirmed_on_text": (
        [
            *("--task", "stories260k", *ADAPTATION, "--seeds", "0", "--fresh", "2"),
            *("--searches", "trunk_by_itself", "--runs", "5", "--share", "1"),
        ],
        [rf"\| trunk_by_itself \| {NUMBER} \| [01] of 1 \|"],
    ),
    "decay_study": (["--steps", "20"], [r"8 trials of 20 steps.*: [2-9]\.\d+ x", "against the same run from scratch: the same bits"]),
    "earlier_grids": (
        ["--tables", "stories260k", "--draws", "1"],
        [rf"\| stories260k \| 12 \| \d+ of 12 \| earlier \| 0\.{NUMBER}% \|", rf"\| random \| {NUMBER}% \|"],
    ),
    "generation": (
        ["--shapes", "llama_1m", "--batch", "1", "4", "--new-tokens", "4", "--rounds", "1", "--rows", "40"],
        [rf"\| llama_1m \| 4 \| {NUMBER} \| {NUMBER} \|", r"backwards: 0 of 40", r"after a kill: 0 of 20"],
    ),
    "large_study": (["--trials", "5", "--claims", "2"], [rf"claim, trunk +median {NUMBER} s", rf"status --json +median {NUMBER} s"]),
    "make_size_grids": (
        [
            *("--models", "my-model", "--target", "docs.jsonl", "--out", "sizes.csv", "--tokens", "2000"),
            *("--batches", "256", "512", "--rates", "1e-3", "4e-3", "--metric-tokens", "1000"),
        ],
        [r"sizes.csv: 4 rows"],
    ),
    "merge_study": (
        [
            "--model",
            "my-model",
            "--texts",
            "a=docs.jsonl",
            "b=general.jsonl",
            "--seeds",
            "1",
            "--steps",
            "8",
            "--trials",
            "7",
            "--tokens",
            "4000",
        ],
        [
            rf"\| searched: weights, groups \| {NUMBER} \|",
            rf"\| the mean of shorter ones, healed at equal tokens \| {NUMBER} \|",
            rf"\| a: the mean of the last 8 checkpoints, without a decay \| {NUMBER} \|",
        ],
    ),
    "merging": (
        ["--megabytes", "200", "--sparse-megabytes", "400", "--methods", "linear", "--no-mergekit"],
        [
            rf"\| 3 of {NUMBER} MB, full, round 1 \| linear \| harness \| {NUMBER} \|",
            rf"linear \| harness, plan \| {NUMBER}",
            rf"harness, rows \| {NUMBER}",
        ],
    ),
    "near_duplicates": (
        ["--rows", "300"],
        [rf"300 rows: {NUMBER} s; [1-9]\d+ go at", r"pairs that share one of 14 buckets: [1-9]", r"mean error of the estimate .*: 0\.0\d"],
    ),
    "online_at_once": (["--runs", "2", "--steps", "3"], [rf"log_metrics: p50 {NUMBER} ms", "after harness sync: 2"]),
    "packing": (["--documents", "1000", "--rounds", "1"], [rf"\| 1,000 \| split \| {NUMBER} \| \d+ \| 0.99", r"1,000 \| truncate"]),
    "preference_grid": (
        [
            *("--model", "my-model", "--texts", "general.jsonl", "--pairs", "40", "--steps", "2", "--seeds", "1"),
            *("--arms", "sft on the chosen, 3e-4", "dpo, 3e-4", "simpo, 3e-4, beta 2"),
        ],
        [rf"\| simpo, 3e-4, beta 2 \| {NUMBER} ± 0.0000 \|", rf"\| sft on the chosen, 3e-4 \| {NUMBER} ± 0.0000 \|", r"3 trials in"],
    ),
    "preferences": (
        ["--pairs", "48", "--steps", "1", "--rounds", "1"],
        [
            rf"reference: {NUMBER} s of CPU time, {NUMBER} s, for 48 pairs",
            rf"\| harness, packed \| 1\.\d+ \| {NUMBER} \|",
            rf"prompts shared \| [01]\.\d+ \| {NUMBER} \|",
            rf"\| loop, padded \| {NUMBER} \|",
        ],
    ),
    "quickstart_rates": (["--rates", "1e-3", "--tokens", "4096"], [rf"1e-03 \| 0.00 \| {NUMBER} \|", rf"3e-03 \| 0.25 \| {NUMBER} \|"]),
    "rate_and_replay": ([], [r"0.25 +0.03 +\d", "^<svg ", "</svg>"]),
    "reproduce": (["--steps", "4"], [r"logged values in 5 rows: all the same", r"(\d+) of \1 tensors .* are the same to the last bit"]),
    "resume": (["--rounds", "1"], [rf"\| harness resume \| {NUMBER} \|", rf"\| attempt on a warm worker \| {NUMBER} \|"]),
    "search_quality": (
        ["--tasks", "stories260k", "--seeds", "1", "--workers", "1", "--searches", "random"],
        [r"\| stories260k \| tpe \| .* \| 2\.\d{4} \|", r"\| stories260k \| random \| .* \| 2\.\d{4} \|"],
    ),
    "simulate": (
        ["on_a_table.yaml", "--table", TABLE, "--workers", "2", "--killed", "0.1"],
        [r"\| 0 \| [23]\.\d{4} \| [\d,]+ \| 4 \| .* \| 0 \| 0 \|"],
    ),
    "slurm_launch": (["--repeats", "1", "--workers", "10"], [rf"look at all of them.* {NUMBER} \|", rf"\| slurm \| cached \| {NUMBER}"]),
    "slurm_recovery": (
        ["--trials", "4", "--steps", "20", "--preemptions", "1"],
        [rf"s local, {NUMBER} s on Slurm", r"preempted 1 times: \d+ tokens", r"node failed 1 times: \d+ tokens"],
    ),
    "steering": (
        ["--model", "my-model", "--general", "general.jsonl", "--trials", "8", "--tokens", "600", "--steps", "4", "--rounds", "1"],
        [
            rf"\| doing nothing \| -?{NUMBER} \(-?{NUMBER} to -?{NUMBER}\) \|  \| {NUMBER} \| 0.0000 \(0.0000 to 0.0000\) \|",
            rf"\| random direction 2, block \d.* \| -?{NUMBER} \(",
            r"trained against found: ",
            rf"a trial takes {NUMBER} s",
            rf"hooks: {NUMBER} tokens/s steered",
        ],
    ),
    "sync": (["--runs", "2", "--rows", "5"], [rf"wandb sync +{NUMBER} s", rf"harness sync, once more +{NUMBER} s"]),
    "synthesis_kills": (
        ["--rows", "200", "--kills", "2"],
        [r"2 times kill -9", r"rows lost: 0", r"rows twice: 0", r"the data set is the same, to the byte: True"],
    ),
    "synthesis_study": (
        ["--teacher", "my-model", "--text", "docs.jsonl", "--seeds", "1", "--trials", "2", "--steps", "8"]
        + [f"--{name}=10" for name in ("real", "rows", "new-tokens", "held-out")],
        [rf"the best recipe \| {NUMBER} \|", rf"as it ships, alone \| {NUMBER} \|", rf"shared texts saved \| {NUMBER} \|"],
    ),
    "tokenization": (["--megabytes", "1", "--references"], [rf"\| harness \| {NUMBER} \|", rf"a tenth of the text \| {NUMBER} \|"]),
    "tracking": (["--attempts", "1", "--rows", "10"], [rf"log_metrics +p50 {NUMBER} ms", rf"finish +median {NUMBER} ms"]),
    "training_throughput": (
        ["--models", "llama_1m", "--contexts", "64", "--rounds", "1", "--arms", "bare", "hf"],
        [
            r"hf: another document changes hidden states by \d",
            rf"\| llama_1m \| 64 \| 32 \| harness \| {NUMBER} \| 1.000",
            *(rf"\| {arm} \| {NUMBER} \| {NUMBER} \|" for arm in ("bare", "hf")),
        ],
    ),
    "trial_overhead": (
        ["--trials", "1", "--tracking", "none"],
        [rf"  model +{NUMBER}", rf"  together +{NUMBER}", rf"  first step +{NUMBER}"],
    ),
    "virtual_workers": (["--workers", "4", "--trials", "20"], [r"\| 20 \| 4 \| \d+ \| .* \| 0 \| 0 \|"]),
    "workers": (["--workers", "2", "--trials", "2", "--seconds", "0"], [r"\| journal file \| 2 \| 0.0 \| 4 \| .* \| 0 \| 0 \|"]),
}
"""Arguments of a run that takes seconds, and what it prints."""

TOGETHER = {"make_table", "real_search", "fresh_seed_shifts"}
"""Those whose small runs are told below."""
LACKS: dict[str, tuple[list[str], bool, str]] = {
    "gpu_throughput": ([], not shutil.which("nvidia-smi"), "a GPU"),
    "packing": (["--trl", "bfd"], find_spec("trl") is None, "trl"),
    "tokenization": ([], find_spec("trl") is None, "trl"),
    "training_throughput": ([], find_spec("trl") is None, "trl"),
    "quickstart_rates": ([], True, "quickstart/base"),
    "real_search": ([], True, "quickstart/base"),
    "make_table": ([*ADAPTATION, "--out", "table.csv"], True, "my-model"),
}
"""Arguments with which a script needs what is not on every machine, whether this one lacks it, and the word for it."""


def _imported(script: Path) -> Iterator[tuple[str, str]]:
    """Module and name of what a script takes from the repository, inside of functions too."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and (ROOT / node.module.split(".")[0]).is_dir():
            yield from ((node.module, alias.name) for alias in node.names)


def _offers(module: str, name: str) -> bool:
    """Whether a module has the name, or a file of it, or imports it for itself; told from the source, since some import torch."""
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        if (path / name).is_dir() or (path / f"{name}.py").exists():
            return True
        path = path / "__init__"
    source = path.with_suffix(".py")
    return source.exists() and any(name in _bound(node) for node in ast.parse(source.read_text()).body)


def _bound(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.ImportFrom() | ast.Import():
            return {alias.asname or alias.name for alias in node.names}
        case ast.Assign() | ast.AnnAssign():
            return {found.id for found in ast.walk(node) if isinstance(found, ast.Name) and isinstance(found.ctx, ast.Store)}
        case _:
            return set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_a_benchmark_imports_exists(script: Path) -> None:
    assert [f"{module}.{name}" for module, name in _imported(script) if not _offers(module, name)] == []


def test_every_script_has_a_small_run() -> None:
    scripts = {script.stem for script in (ROOT / "benchmarks").glob("*.py")}
    assert scripts - PARTS - {"gpu_throughput"} == SMALL.keys() | TOGETHER


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model, some text, what `harness quickstart` leaves, and a sweep that a table answers."""
    folder = tmp_path_factory.mktemp("home")
    pages.make_home(folder)
    (folder / "quickstart").mkdir()
    (folder / "quickstart" / "base").symlink_to(folder / "my-model")
    (folder / "quickstart" / "text").symlink_to(folder / "text")
    sweep = {
        "base": ["experiment=cpt", "model.path=my-model", "data.sources.target.path=docs.jsonl", "data.sources.general.path=general.jsonl"],
        "objective": {"metric": "val/target/loss"},
        "constraints": {"val/general/forgetting": {"max": 3.0}},
        "space": {"optim.lr": {"low": 1e-3, "high": 3e-2, "log": True}},
        "search": "random",
        "budget": {"trials": 4},
    }
    sweep["base"] += ["schedule=wsd", "trainer.batch_tokens=1024", "trainer.max_steps=108", "trainer.max_tokens=null"]
    (folder / "on_a_table.yaml").write_text(json.dumps(sweep))
    return folder


def _run(script: str, *arguments: str, home: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """python: that of `pages.environment()`, for a script of which nothing is measured, has imported torch already."""
    environment = {**pages.environment(), "PYTHONPATH": str(ROOT), "HARNESS_CACHE": str(home / "cache")}
    command = [python, "-m", f"benchmarks.{script}", *arguments]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=900, check=False)


def _figures(script: str, *arguments: str, home: Path) -> str:
    done = _run(script, *arguments, home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("script", SMALL)
def test_a_small_run_prints_its_figures(script: str, home: Path) -> None:
    if script.startswith("slurm") and not shutil.which("slurmctld"):
        pytest.skip("no Slurm here")
    arguments, wanted = SMALL[script]
    said = _figures(script, *arguments, home=home)
    assert [pattern for pattern in wanted if not re.search(pattern, said, flags=re.MULTILINE)] == [], said


@pytest.mark.long
@pytest.mark.timeout(1000)
def test_a_table_that_was_made_answers_a_sweep(home: Path) -> None:
    grid = ["--rates", "1e-3", "1e-2", "--shares", "0", "--steps", "4", "8", "--fractions", "0.5", "--shapes", "linear", "--warmup", "1"]
    assert re.search(
        r"table.csv: \d+ rows", _figures("make_table", *ADAPTATION, *grid, "--schedules", "wsd", "--out", "table.csv", home=home)
    )
    overrides = ["trainer.max_steps=8", "schedule.decay_fraction=0.5", "schedule.decay_shape=linear"]
    said = _figures("simulate", "on_a_table.yaml", "--table", "table.csv", *overrides, home=home)
    assert re.search(rf"\| 0 \| {NUMBER} \|", said)


@pytest.mark.long
@pytest.mark.timeout(1000)
def test_a_search_on_text_is_reported_and_its_shifts_are_read(home: Path) -> None:
    search = ["--task", "stories260k", *ADAPTATION, "--folder", "searches", "--seeds", "0", "--searches", "tpe", "--runs", "2"]
    said = _figures("real_search", *search, "--top", "2", "--rounds", "1", "--confirm-seeds", "2", home=home)
    assert re.search(rf"\| tpe \| 1 \| 2 \| 2.0 \| {NUMBER} \|", said)
    shifts = _figures("fresh_seed_shifts", "searches", home=home)
    assert re.search(rf"\| nothing \| 2 \| {NUMBER} \|", shifts)


@pytest.mark.slow
@pytest.mark.parametrize("script", LACKS)
def test_what_a_script_needs_and_is_not_here_is_said_in_one_line(script: str, tmp_path: Path) -> None:
    arguments, is_lacking, word = LACKS[script]
    if not is_lacking:
        pytest.skip(f"{word} is here")
    done = _run(script, *arguments, home=tmp_path, python="python")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"needs {word}" in done.stderr
