"""A stranger's file says what a run is, not where things go or what runs. Attacks plant a secret, a victim or a way out, and look at it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from harness.config.checks.launcher import launcher_problems
from harness.config.errors import InputError
from harness.config.launcher_schema import LauncherConfig
from harness.config.load import load, load_given_file
from harness.config.schema import Config
from harness.config.trust import FILES_VARIABLE, config_wishes, is_own, sweep_wishes, trust_files
from harness.config.validate import to_plain
from harness.data.sources import source_files
from harness.models.ingredients import ingredient
from harness.models.steering.vector_file import VectorSettings, read_vector, write_vector
from harness.runs.bundle import Bundle, BundleDirectory
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.result import Tokens
from harness.search.load_sweep import load_sweep
from harness.tracking.wandb_directory import refuse_links
from tests.merging.models import tensors, write_adapter_files, write_model
from tests.support.command import call_harness
from tests.support.corpus import TinyText

SECRET = "wJalrXUtnFEMI-hunter2"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", SECRET)
    monkeypatch.setenv(FILES_VARIABLE, "")


def recipe(text: str, place: str = "conf/experiment/best/evil.yaml") -> Path:
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# @package _global_\n{text}\n")
    return path


@pytest.mark.parametrize(
    "text",
    [
        r'"\x24{oc.env:MY_SECRET}"',
        r'"$\x7boc.env:MY_SECRET}"',
        r'"${oc.env\x3aMY_SECRET}"',
        '"${oc.en\\\n  v:MY_SECRET}"',
        '"${oc.${tracking.project}:MY_SECRET}"',
        "[a, {b: '${oc.env:MY_SECRET}'}]",
        "{'${oc.env:MY_SECRET}': a}",
    ],
)
@pytest.mark.parametrize("key", ["adapter.init_text", "trainer.callbacks.x.y"])
def test_no_way_of_writing_an_interpolation_reads_the_environment(text: str, key: str, tiny: list[str]) -> None:
    section, _, name = key.rpartition(".")
    body = f"{{{name}: {text}}}"
    for part in reversed(section.split(".")[1:]):
        body = f"{{{part}: {body}}}"
    recipe(f"tracking: {{project: env}}\n{key.partition('.')[0]}: {body}")
    with pytest.raises(InputError, match=r"holds values, no interpolations.*harness --trust .*evil\.yaml") as raised:
        load([*tiny, "experiment=best/evil"])
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("entry", ["/experiment/./best/d/x@_global_", "/experiment/../../../outside/x@_global_", "/outside/x@_global_"])
def test_nor_does_a_file_that_a_recipe_brings_along(entry: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    for place in ("conf/experiment/best/d/x.yaml", "../outside/x.yaml", "conf/outside/x.yaml"):
        recipe("adapter: {init_text: '${oc.env:MY_SECRET}'}", place)
    recipe(f"defaults: [{entry}]")
    with pytest.raises(InputError, match="holds values, no interpolations") as raised:
        load([*tiny, "experiment=best/evil"])
    assert SECRET not in str(raised.value)


WHERE_THINGS_GO = [
    ("tracking.entity", "evilcorp"),
    ("tracking.mode", "online"),
    ("tracking.tags", ["loot"]),
    ("data.cache_dir", "pwn_cache"),
    ("data.sources.domain.path", "/etc/passwd"),
    ("data.validation.domain.path", "../../secrets.txt"),
    ("model.path", "~/.ssh"),
    ("tokenizer.path", "s3://evil/tokenizer"),
    ("data.chat_template", "/etc/x.jinja"),
    ("trainer.callbacks.c.dirpath", "/home/x/.config/autostart"),
    ("trainer.callbacks.c.paths", ["a", "../../b"]),
]


@pytest.mark.parametrize(("key", "value"), WHERE_THINGS_GO)
def test_a_file_of_somebody_else_does_not_say_where_things_go(key: str, value: Any, tiny: list[str], tmp_path: Path) -> None:
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    text = yaml.safe_dump(nested)
    (tmp_path / "theirs").mkdir()
    evil = Path("theirs/evil.yaml")
    written = recipe(text)
    evil.write_text(text)
    shown = key.replace(".", r"\.")
    rest = [override for override in tiny if not override.startswith(f"{key}=")]
    with pytest.raises(InputError, match=rf"{shown}=.*harness --trust {written.resolve()}"):
        load([*rest, "experiment=best/evil"])
    with pytest.raises(InputError, match=rf"{shown}=.*harness --trust theirs/evil\.yaml"):
        load_given_file(evil)
    flow = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
    for sweep in (question([*rest, f"{key}={flow}"]), question(rest, space={key: {"choices": [value]}})):
        with pytest.raises(InputError, match=rf"{shown}=.*harness --trust theirs/q\.yaml"):
            load_sweep(str(sweep), [])
    assert not Path("pwn_cache").exists()


@pytest.mark.parametrize(
    ("word", "is_inside"),
    [
        *((word, True) for word in ("study:cpt", "confirm:cpt", "run:docs", "trunk:cpt/3", "cpt/3@20", "base+adapter")),
        *((word, False) for word in ("study:/etc", "run:../docs", "confirm:~/runs/cpt", "base+/etc/adapter", "../base+adapter")),
    ],
)
def test_words_for_several_models_name_places_as_well(word: str, is_inside: bool, tmp_path: Path) -> None:
    wishes = list(config_wishes([("model.merge.ingredients.a.path", word)], tmp_path / "theirs" / "recipe.yaml"))
    assert wishes == ([] if is_inside else [f"model.merge.ingredients.a.path={word} (outside of the working directory)"])


def question(base: list[str], place: str = "theirs/q.yaml", **document: Any) -> Path:
    Path(place).parent.mkdir(exist_ok=True)
    usual = {"objective": {"metric": "val/domain/loss"}, "space": {"optim.lr": {"low": 1e-3, "high": 1e-2}}, "budget": {"trials": 1}}
    Path(place).write_text(yaml.safe_dump({"base": base, **usual, **document}))
    return Path(place)


@pytest.mark.parametrize(
    "text",
    [
        "defaults: [override /tracking: wandb_online]",
        "defaults: [/tracking/wandb_online@tracking]",
        "defaults: [/tracking@tracking: wandb_online]",
    ],
)
def test_a_recipe_does_not_choose_where_its_rows_go_by_a_group(text: str, tiny: list[str]) -> None:
    recipe(text)
    with pytest.raises(InputError, match=r"tracking=wandb_online|Multiple values for tracking"):
        load([override for override in tiny if not override.startswith("tracking")] + ["experiment=best/evil"])


def test_a_recipe_in_another_package_is_read_where_it_lands(tiny: list[str]) -> None:
    recipe("entity: evilcorp").write_text("# @package tracking\nentity: evilcorp\n")
    with pytest.raises(InputError, match=r"tracking\.entity=evilcorp"):
        load([*tiny, "experiment=best/evil"])


@pytest.mark.parametrize(
    ("document", "wish"),
    [
        ({"launcher": {"name": "slurm", "environment": {"PYTHONPATH": "theirs"}}}, r"launcher\.environment="),
        ({"launcher": {"name": "slurm", "setup": ["touch x"]}}, r"launcher\.setup="),
        ({"launcher": {"name": "slurm", "python": "/scratch/evil"}}, r"launcher\.python="),
        ({"launcher": {"name": "slurm", "partition": "gpu\ntouch x"}}, r"launcher\.partition=gpu touch x"),
        ({"storage": "postgresql://bob:pw@127.0.0.1:5999/x"}, r"storage=postgresql://…@127\.0\.0\.1"),
        ({"storage": 5}, r"storage=5"),
        ({"space": {"tracking": {"choices": ["wandb_online"]}}}, r"tracking=wandb_online"),
        ({"search": {"name": "tpe", "warm_start": "study:/home/x/runs/s"}}, r"search\.warm_start=study:/home/x"),
        ({"search": {"name": "${oc.env:MY_SECRET}"}}, "no interpolations"),
        ({"constraints": {"${oc.env:MY_SECRET}": {"max": 1}}}, "no interpolations"),
    ],
)
def test_a_sweep_file_of_somebody_else_brings_no_launcher_and_no_storage(document: dict[str, Any], wish: str, tiny: list[str]) -> None:
    sweep = question(here(tiny), **document)
    with pytest.raises(InputError, match=wish) as raised:
        load_sweep(str(sweep), [])
    assert SECRET not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def here(tiny: list[str]) -> list[str]:
    """The tiny run, with its files inside the working directory."""
    made = []
    for override in tiny:
        key, _, value = override.partition("=")
        if value.startswith("/"):
            link = Path(f"own-{key}{Path(value).suffix}")
            if not link.is_symlink():
                link.symlink_to(value)
            value = str(link)
        made.append(f"{key}={value}")
    return [override for override in made if not override.startswith("tracking")]


def test_it_says_what_a_run_is_and_names_a_profile(tiny: list[str]) -> None:
    mine = {"launcher": {"name": "local", "workers": 3}}
    sweep = load_sweep(str(question([*here(tiny), "tracking=none", "seed=3"], **mine)), [])
    assert (sweep.base.config.seed, sweep.config.launcher.workers) == (3, 3)


def test_the_command_line_says_the_rest(tiny: list[str]) -> None:
    sweep = question([*here(tiny), "tracking.project=theirs"], launcher={"name": "slurm", "partition": "theirs"})
    loaded = load_sweep(str(sweep), ["tracking.project=mine", "launcher.partition=mine"])
    assert (loaded.base.config.tracking.project, loaded.config.launcher.partition) == ("mine", "mine")


WHOSE: list[tuple[str, bool]] = [
    ("q.yaml", True),
    ("sweeps/q.yaml", True),
    ("sweeps/deeper/q.yaml", True),
    ("conf/experiment/q.yaml", True),
    ("runs/study/trials/0001/config.yaml", True),
    ("conf/experiment/best/q.yaml", False),
    ("conf/experiment/best/q/sweep.yaml", False),
    ("conf/experiment/../experiment/best/q.yaml", False),
    ("theirs/q.yaml", False),
    ("theirs/config.yaml", False),
    ("made/config.yaml", True),
    ("theirs/../q.yaml", True),
    ("../q.yaml", False),
    ("runs/../theirs/q.yaml", False),
    ("bundle/sweeps/q.yaml", False),
]


@pytest.mark.parametrize(("path", "own"), WHOSE)
def test_whose_a_file_is_follows_from_its_place(path: str, own: bool) -> None:
    for folder in ("conf/experiment/best", "sweeps", "theirs", "bundle/sweeps", "runs"):
        Path(folder).mkdir(parents=True)
    Path("bundle/bundle.json").touch()
    Path("made").mkdir()
    Path("made/result.json").touch()
    assert is_own(Path(path)) is own
    assert is_own(Path(path).absolute()) is own


def test_what_lies_in_a_bundle_is_nobodys_own_even_where_one_works_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path / "bundle")
    assert is_own(Path("sweep.yaml"))
    Path("bundle.json").touch()
    assert not is_own(Path("sweep.yaml"))


def test_trust_is_given_by_name(tiny: list[str], tmp_path: Path) -> None:
    base = [*here(tiny), "tracking.project=theirs"]
    sweep, other = question(base), question(base, "theirs/other.yaml")
    recipe("tracking: {entity: friends}")
    attempts: list[Callable[[], object]] = [
        lambda: load_sweep(str(sweep), []),
        lambda: load_sweep(str(other), []),
        lambda: load([*tiny, "experiment=best/evil"]),
    ]

    def accepted() -> list[bool]:
        found = []
        for attempt in attempts:
            try:
                attempt()
            except InputError as error:
                assert "--trust" in str(error)  # noqa: PT017
                found.append(False)
            else:
                found.append(True)
        return found

    assert accepted() == [False, False, False]
    trust_files([str(sweep)])
    assert accepted() == [True, False, False]
    trust_files(["theirs"])
    assert accepted() == [True, True, False]
    trust_files(["best/evil"])
    assert accepted() == [False, False, True]
    with pytest.raises(InputError, match=r"--trust=best/nothing: no such file"):
        trust_files(["best/nothing"])


def test_the_resolved_configuration_of_a_run_of_somebody_else(tiny: list[str], tmp_path: Path) -> None:
    """All keys stand in it: those that say nothing beyond the defaults are no wishes."""
    plain = to_plain(load(here(tiny)).config)
    Path("theirs").mkdir()
    write_yaml(Path("theirs/config.yaml"), plain)
    config: Config = load_given_file(Path("theirs/config.yaml"), ["seed=5"])
    assert config.seed == 5
    plain["tracking"]["mode"] = "online"
    write_yaml(Path("theirs/config.yaml"), plain)
    with pytest.raises(InputError, match=r"tracking\.mode=online"):
        load_given_file(Path("theirs/config.yaml"))
    assert load_given_file(Path("theirs/config.yaml"), ["tracking.mode=offline"]).tracking.mode == "offline"
    write_yaml(Path("runs/x/config.yaml"), plain)
    assert load_given_file(Path("runs/x/config.yaml")).tracking.mode == "online"


def test_a_link_that_came_with_a_file_does_not_lead_out(tmp_path: Path) -> None:
    Path("theirs/data").mkdir(parents=True)
    Path("theirs/data/x.jsonl").symlink_to("/etc/passwd")
    base = [f"data.sources.a.path={Path('theirs/data/x.jsonl')}"]
    assert list(sweep_wishes({"base": base}, Path("theirs/q.yaml")))
    Path("theirs/data/y.jsonl").touch()
    assert not list(sweep_wishes({"base": [base[0].replace("x.jsonl", "y.jsonl")]}, Path("theirs/q.yaml")))


PASSWD = "root:x:0:0:root:/root"


def listed(folder: Path, secret: Path) -> None:
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": str(secret)}]}))


def climbing(folder: Path, secret: Path) -> None:
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": f"../{secret.name}"}]}))


def split_elsewhere(folder: Path, secret: Path) -> None:
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": [".."]}))
    (folder.parent / "state.json").write_text(json.dumps({"_data_files": [{"filename": secret.name}]}))


def linked(folder: Path, secret: Path) -> None:
    (folder / "a.txt").symlink_to(secret)


def linked_blobs(folder: Path, secret: Path) -> None:
    (folder / "blobs").symlink_to(secret.parent)
    (folder / "snapshots").mkdir()
    (folder / "snapshots/a.txt").symlink_to(folder / "blobs" / secret.name)


@pytest.mark.parametrize("attack", [listed, climbing, split_elsewhere, linked, linked_blobs])
@pytest.mark.parametrize("asked", ["ds", "ds/**/*", "./ds/"])
def test_a_data_set_of_somebody_else_names_no_file_of_its_reader(attack: Callable[[Path, Path], None], asked: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(PASSWD)
    folder = tmp_path / "ds"
    folder.mkdir()
    attack(folder, secret)
    with pytest.raises(InputError, match=r"lies outside of.*harness --trust|no file there ends in"):
        source_files(asked, key="data.sources.a")
    if asked == "ds":
        trust_files(["ds"])
        assert {file.read_text() for file in source_files("ds", key="data.sources.a")} == {PASSWD}


def test_links_of_ones_own_data_set_and_to_the_blobs_of_a_snapshot_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = tmp_path / "datasets--org--name/blobs/0a1b"
    snapshot = tmp_path / "datasets--org--name/snapshots/5e6f"
    blob.parent.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    blob.write_text("text")
    (snapshot / "a.txt").symlink_to("../../blobs/0a1b")
    (snapshot / "b.txt").symlink_to("a.txt")
    for asked in (snapshot, snapshot / "*.txt", snapshot / "a.txt"):
        assert source_files(str(asked), key="data.sources.a")
    monkeypatch.chdir(tmp_path)
    for place in ("raw", "chosen"):
        Path(place).mkdir()
    Path("raw/c.txt").write_text("text")
    Path("chosen/c.txt").symlink_to("../raw/c.txt")
    assert source_files("chosen", key="data.sources.a")


@pytest.mark.parametrize(
    ("name", "document", "problem"),
    [
        ("model.safetensors.index.json", {"weight_map": {"a": "model.safetensors", "b": "../outside.safetensors"}}, r"names \.\./outside"),
        ("pytorch_model.bin.index.json", {"weight_map": {"a": "/etc/x.bin"}}, r"names /etc/x\.bin"),
        ("adapter_config.json", {"base_model_name_or_path": "/home/x/model"}, r"adapter_config\.json names another model"),
        ("config.json", {"_attn_implementation": "evil/kernel"}, r"code of the hub.*evil/kernel.*--trust-remote-code"),
    ],
)
def test_a_model_of_somebody_else_is_what_lies_in_it(
    name: str, document: dict[str, Any], problem: str, tiny_model: Path, tiny_text: TinyText, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    before = json.loads((tmp_path / "model" / name).read_text()) if name == "config.json" else {}
    (tmp_path / "model" / name).write_text(json.dumps({**before, **document}))
    with pytest.raises(InputError, match=problem):
        load(tiny_text.pretrained(tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("tokenizer_config.json", "elsewhere/tokenizer_config.json"),
        ("chat_template.jinja", "work/private.env"),
        ("README.md", "elsewhere/models--org--name/private.md"),
        ("additional_chat_templates/tool.jinja", "elsewhere/tool.jinja"),
        ("additional_chat_templates", "elsewhere"),
    ],
)
def test_nor_is_it_a_link_to_a_text_of_its_reader(
    name: str, target: str, tiny_model: Path, tiny_text: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, private = tmp_path / "work/model", tmp_path / target
    shutil.copytree(tiny_model, model)
    (tmp_path / "elsewhere/models--org--name").mkdir(parents=True)
    (tmp_path / "elsewhere/a.jinja").write_text("a")
    if not private.is_dir():
        private.write_text("{}")
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(private)
    monkeypatch.chdir(tmp_path / "work")
    allowed = rf"--trust {model} … \(before resume .* export {FILES_VARIABLE}={model}\)"
    with pytest.raises(InputError, match=rf"is {private}.*, which lies outside of .*{allowed}"):
        load(tiny_text.pretrained(model))
    monkeypatch.setenv(FILES_VARIABLE, str(model))
    load(tiny_text.pretrained(model))


@pytest.mark.parametrize("word", ["theirs", "base+theirs"])
def test_nor_is_an_adapter(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "work/base", tensors(0))
    adapter = write_adapter_files(tmp_path / "work/theirs", "base", 1)
    monkeypatch.chdir(tmp_path / "work")
    assert ingredient(word, key="model").updates is not None
    link_out(adapter / "adapter_config.json", tmp_path)
    with pytest.raises(InputError, match=r"model=theirs: .*adapter_config\.json, which lies outside of theirs.*--trust theirs"):
        ingredient(word, key="model")
    trust_files(["theirs"])
    assert ingredient(word, key="model").updates is not None


def test_nor_is_a_steering_direction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work/theirs").mkdir(parents=True)
    of_adding = VectorSettings("m", "f", "mean_difference", "last", "add", "all", {0: 1.0}, [1.0], 1, None, [1.0], [0.0])
    write_vector(tmp_path / "work/theirs", {0: torch.ones(2)}, of_adding)
    monkeypatch.chdir(tmp_path / "work")
    link_out(Path("theirs/steering.json"), tmp_path)
    with pytest.raises(InputError, match=r"adapter\.vector=theirs: .*steering.json, which lies outside of theirs.*--trust theirs"):
        read_vector(Path("theirs"))
    trust_files(["theirs"])
    assert read_vector(Path("theirs"))[1] == of_adding


def link_out(file: Path, elsewhere: Path) -> None:
    shutil.move(file, elsewhere / file.name)
    file.symlink_to(elsewhere / file.name)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("model.safetensors", "elsewhere/weights.safetensors"),
        ("model.safetensors", "work/w/model.safetensors"),
        ("config.json", "work/base/config.json"),
        ("tokenizer.json", "elsewhere/hub/models--org--name/blobs/0a1b2c"),
    ],
)
def test_links_of_ones_own_model_are_followed(
    name: str, target: str, tiny_model: Path, tiny_text: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "work/model")
    (tmp_path / target).parent.mkdir(parents=True)
    (tmp_path / "work/model" / name).rename(tmp_path / target)
    (tmp_path / "work/model" / name).symlink_to(tmp_path / target)
    monkeypatch.chdir(tmp_path / "work")
    load(tiny_text.pretrained(Path("model")))


OF_A_RUN = [
    "config.yaml",
    "metrics.jsonl",
    "generations.jsonl",
    "result.json",
    "wandb/run.json",
    "wandb/offline-run-1-a/run-a.wandb.synced",
]


@pytest.mark.parametrize("name", [*OF_A_RUN, "wandb", "wandb/offline-run-1-a"])
def test_a_run_of_somebody_else_uploads_and_marks_no_file_of_its_reader(name: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "runs/x")
    for file in OF_A_RUN:
        (run.path / file).parent.mkdir(parents=True, exist_ok=True)
        (run.path / file).write_text("{}")
    refuse_links(run)
    (run.path / name).rename(tmp_path / "private")
    (run.path / name).symlink_to(tmp_path / "private")
    with pytest.raises(InputError, match="is a link"):
        refuse_links(run)


def test_the_private_part_of_a_bundle_is_looked_for_among_the_users_files_alone(tmp_path: Path) -> None:
    theirs = BundleDirectory(tmp_path / "theirs/experiment/best/x")
    assert theirs.owners is None
    (tmp_path / "conf").mkdir()
    assert BundleDirectory(tmp_path / "conf/experiment/best/x").owners == tmp_path / "conf/local/best/x.yaml"


@pytest.mark.parametrize("name", ["x/../../../evil", "/evil", "..", "a/b", ""])
def test_the_name_of_a_recipe_does_not_say_where_its_models_are_trained(name: str, tmp_path: Path) -> None:
    bundle = BundleDirectory(tmp_path / "theirs")
    nothing: dict[str, Any] = {"base": [], "task": {}, "metric": None, "objective": None, "interval": None, "noise": None, "hardware": {}}
    conditions: dict[str, Any] = {"seeds": [], "versions": {}, "git_commit": None, "fingerprints": {}, "model": {"name": "hf"}}
    bundle.write(
        Bundle(
            **{**nothing, **conditions, "name": name, "created": "2026-01-01", "study": None, "trial": None, "trials": 1},
            **{"direction": "minimize", "confirmed": False, "seed": 1, "steps": 1, "tokens": Tokens(), "seconds": 1.0},
        )
    )
    with pytest.raises(InputError, match=r"bundle\.json: damaged: name=.*: valid: letters, digits"):
        bundle.read()
    document = json.loads((bundle.path / "bundle.json").read_text())
    (bundle.path / "bundle.json").write_text(json.dumps({**document, "name": "plain-1.0_x"}))
    assert bundle.read().name == "plain-1.0_x"


def test_trust_is_no_variable_of_a_launcher(tiny: list[str]) -> None:
    launcher = LauncherConfig(name="slurm", environment={"HARNESS_TRUST": "theirs", "HARNESS_TRUST_REMOTE_CODE": "model"})
    problems = list(launcher_problems(launcher, load(tiny).config.trainer))
    assert len(problems) == 2
    assert all("trust is given on the command line alone" in problem for problem in problems)


def test_all_of_it_from_the_command_line(tiny: list[str]) -> None:
    """One message, exit code 2, nothing written and nothing run."""
    sweep = question(here(tiny), launcher={"name": "slurm", "workers": 1, "environment": {"PYTHONPATH": "theirs"}})
    Path("theirs/sitecustomize.py").write_text("open('PWNED', 'w').close()\n")
    before = sorted(path for path in Path.cwd().rglob("*") if "cache" not in path.parts)
    done = call_harness("sweep", str(sweep), "--name", "q", cwd=Path.cwd())
    assert done.rc == 2
    assert done.stderr.count("error:") == 1
    assert "launcher.environment={PYTHONPATH: theirs}" in done.stderr
    assert f"harness --trust {sweep}" in done.stderr
    assert sorted(path for path in Path.cwd().rglob("*") if "cache" not in path.parts) == before
    assert os.environ[FILES_VARIABLE] == ""
    trusted = call_harness("--trust", str(sweep), "sweep", str(sweep), "--name", "q", "--dry-run", cwd=Path.cwd())
    assert trusted.rc == 0, trusted.stderr
    assert "PYTHONPATH" in trusted.stdout
