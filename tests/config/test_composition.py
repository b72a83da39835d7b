"""Everything under conf/ and sweeps/ composes, and every experiment trains a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config.compose import compose
from harness.config.load import load
from harness.config.locations import groups, shipped
from harness.config.schema import Config
from harness.config.sweep_schema import SweepConfig
from harness.config.validate import to_section
from harness.search.load_sweep import load_sweep
from tests.support import corpus
from tests.support.command import run_harness

SWEEP_GROUPS = ("search", "stopping", "launcher")


CONF = shipped("conf")
CHOICES = [path.relative_to(CONF).with_suffix("").as_posix() for path in sorted(CONF.rglob("*.yaml")) if path.parent != CONF]
EXPERIMENTS = [choice.removeprefix("experiment/") for choice in CHOICES if choice.startswith("experiment/")]
SWEEPS = sorted(path.stem for path in shipped("sweeps").glob("*.yaml"))

CPT = ["model.path=model", "data.sources.target.path=domain.jsonl", "data.sources.general.path=general.jsonl"]
TASK = ["model.path=model", "data.generation.task.path=task.jsonl", "data.generation.task.verifier=exact"]
MERGE = [
    "model.merge.base=model",
    "model.merge.ingredients.one.path=model",
    "model.merge.ingredients.two.path=model",
    "data.validation.one.path=domain.jsonl",
    "data.validation.two.path=general.jsonl",
    "trainer.max_steps=0",
]
STEER = [
    "model.path=model",
    "adapter.pairs=contrast.jsonl",
    "data.contrast.trait.path=trait.jsonl",
    "data.contrast.trait.instruction=a good day",
    "data.validation.general.path=general.jsonl",
    "data.context_length=64",
    "trainer.max_steps=0",
]
ROOM = ["data.context_length=256", "trainer.batch_tokens=1024"]  # the alpaca template alone is longer than a tiny row
PAIRS = ["model.path=model", "data.sources.prefs.path=pairs.jsonl", "data.chat_template=alpaca"]
MADE = [
    "data.sources.made.synth.seeds.docs.path=domain.jsonl",
    "data.sources.made.synth.teachers.teacher.model=model",
    "data.sources.made.synth.rows=20",
    "data.sources.made.synth.steps.text.max_new_tokens=4",
    "data.validation.real.path=general.jsonl",
    "tokenizer.path=tokenizer",
]
NEEDS = {
    # What a choice leaves for the user to give, and files that it expects in the working directory.
    "model/pretrained": ["model.path=model"],
    "model/merge": ["model.merge.method=linear", "model.merge.ingredients.one.path=model"],
    "objective/distill": ["objective.teacher=model"],
    "adapter/soft_prompt": ["data.context_length=256"],  # else there is no room for it in the model's context
    "adapter/steering": ["adapter.pairs=contrast.jsonl"],
    "experiment/cpt": CPT,
    "experiment/lora": CPT,
    "experiment/sft": ["model.path=model", "data.sources.chat.path=chat.jsonl", "data.chat_template=alpaca", *ROOM],
    "experiment/distill": ["model.path=model", "objective.teacher=model", "data.sources.target.path=domain.jsonl"],
    "experiment/preference": [*PAIRS, "data.context_length=512", "trainer.batch_tokens=1024"],
    "experiment/evaluate": ["model.path=model", "data.validation.domain.path=domain.jsonl", "trainer.max_steps=0"],
    "experiment/sampling": [*TASK, "data.generation.task.max_new_tokens=4", "trainer.max_steps=0"],
    "sweep/sampling": TASK,
    "experiment/synthesis": MADE,
    "sweep/synthesis": [*MADE, "data.sources.real.path=general.jsonl"],
    "experiment/merge": MERGE,
    "sweep/merge": MERGE,
    "experiment/steer": STEER,
    "sweep/steer": STEER,
    "sweep/preference": [*PAIRS, "data.sources.general.path=general.jsonl"],
    **{f"sweep/{name}": CPT for name in SWEEPS if name.startswith("cpt")},
}
SHORT = ["trainer.max_steps=2", "trainer.max_tokens=null", "trainer.batch_tokens=64", "data.context_length=32", "trainer.accelerator=cpu"]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with text, a tokenizer and a model where the shipped configuration expects them."""
    home = tmp_path_factory.mktemp("home")
    text = corpus.tiny_text(home)
    corpus.tiny_model(home / "model", text.tokenizer, context=2048)
    chat = [{"instruction": f"What is {n} + 1?", "output": f"It is {n + 1}."} for n in range(100)]
    (home / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chat))
    pairs = [{"prompt": f"{n} + 1?", "chosen": f"It is {n + 1}.", "rejected": "No."} for n in range(100)]
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    contrast = [{"prompt": f"day {n}", "positive": "was good", "negative": "was bad"} for n in range(10)]
    (home / "contrast.jsonl").write_text("".join(json.dumps(row) + "\n" for row in contrast))
    trait = [{"prompt": f"night {n}", "positive": "is fine", "negative": "is poor"} for n in range(10)]
    (home / "trait.jsonl").write_text("".join(json.dumps(row) + "\n" for row in trait))
    (home / "task.jsonl").write_text('{"prompt": "ab", "answer": "c"}\n')
    quickstart = home / "quickstart"
    (quickstart / "text").mkdir(parents=True)
    for name, file in (("python", text.domain), ("english", text.general)):
        (quickstart / "text" / f"{name}.jsonl").symlink_to(file)
    (quickstart / "tokenizer").symlink_to(text.tokenizer)
    (quickstart / "base").symlink_to(home / "model")
    return home


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def test_there_is_something_to_test() -> None:
    assert {"schedule/wsd", "model/llama_1m", "experiment/quickstart"} <= set(CHOICES)
    assert "quickstart" in SWEEPS


def test_every_file_is_a_choice_of_a_group_that_the_schema_knows() -> None:
    for choice in CHOICES:
        group = choice.rpartition("/")[0]
        assert group in groups()
        top = group.split("/")[0]
        assert top == "experiment" or top in {**vars(Config())} or top in SWEEP_GROUPS, choice


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice.split("/")[0] not in SWEEP_GROUPS])
def test_every_choice_composes(choice: str, at_home: Path) -> None:
    group, _, name = choice.rpartition("/")
    given = [f"{group}={name}", *NEEDS.get(choice, [])]
    base = [] if group == "experiment" else ["tokenizer.path=tokenizer", "data.sources.domain.path=domain.jsonl", "trainer.max_steps=10"]
    load([*base, *given])


def test_what_a_file_says_to_hydra_itself_is_left_out(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment of a project whose other programs use Hydra, too."""
    path = tmp_path / "conf" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "# @package _global_\ndefaults: [override /schedule: wsd, override /hydra/job_logging: disabled]\n"
        "hydra: {run: {dir: elsewhere}}\nseed: 3\n"
    )
    monkeypatch.setenv("HARNESS_CONFIG_DIR", str(tmp_path / "conf"))
    loaded = load([*tiny, "experiment=mine"])
    assert (loaded.config.seed, loaded.config.schedule.name) == (3, "wsd")
    assert "hydra" not in loaded.composed.values


def test_schedule_free_brings_its_schedule_along(tiny: list[str]) -> None:
    """In a sweep over optimizers as well, where the group is chosen the same way; an explicit schedule has the last word."""
    loaded = load([*tiny, "optim=schedule_free"])
    assert (loaded.config.schedule.name, loaded.config.optim.betas) == ("constant", (0.9, 0.999))
    assert loaded.composed.groups["schedule"] == "constant"
    assert load([*tiny, "optim=muon"]).config.schedule.name == "linear"


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice.split("/")[0] in SWEEP_GROUPS])
def test_every_choice_of_a_sweep_composes(choice: str) -> None:
    group, _, name = choice.rpartition("/")
    values = compose("sweep", SweepConfig, [f"{group}={name}"]).values
    section = to_section(SweepConfig, {**values, "objective": {"metric": "val/x/loss"}})
    # Profiles of clusters are called by what they are examples of.
    assert getattr(section, group).name == (name.split("_")[0] if group == "launcher" else name)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_passes_its_checks(name: str, at_home: Path) -> None:
    sweep = load_sweep(name, NEEDS.get(f"sweep/{name}", []))
    assert sweep.space.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_trains(name: str, home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = [f"experiment={name}", *SHORT, *NEEDS.get(f"experiment/{name}", [])]
    done = run_harness("train", *overrides, "--dir", run, cwd=home)
    assert done.rc == 0, done
    assert done.stdout.strip() == str(run)
    result = json.loads((run / "result.json").read_text())
    assert result["state"] == "complete"
    assert result["step"] == (0 if name in ("evaluate", "sampling", "merge", "steer") else 2)
    assert any(metric.startswith(("val/", "generation/", "preference/")) for metric in result["metrics"])
