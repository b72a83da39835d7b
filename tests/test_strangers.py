"""What comes from a stranger runs no code and reads no secret. Every attack here is a real one: it would leave a file behind."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from harness.config.checks.trainer import CALLBACK_ARGUMENTS, CALLBACKS
from harness.config.errors import InputError
from harness.config.load import load, load_file
from harness.config.recipe import recipe_values
from harness.config.remote_code import TRUST_VARIABLE, trust
from harness.config.validate import to_plain
from harness.data.chat.conversation import Conversation, MalformedError, Message
from harness.data.chat.template import ChatTemplate
from harness.models.checkpoint_files import checkpoint_path, damage, last_good_checkpoint
from harness.models.pretrained import load_pretrained, tokenizer_at
from harness.runs.bundle import BUNDLE_FILE, BundleDirectory, find_bundle, named_bundle
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.trials_table import read_trials
from harness.search.load_sweep import load_sweep
from harness.training.checkpoints import AtomicCheckpointIO
from harness.training.export import export


class Attack:
    """Touches a file as soon as it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.canary}'",)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "attacked"


def test_the_attack_works_where_nobody_is_careful(canary: Path) -> None:
    """Else none of these tests could fail."""
    pickle.loads(pickle.dumps(Attack(canary)))
    assert canary.exists()


# Checkpoints.


@pytest.fixture
def poisoned(tmp_path: Path, canary: Path, tiny: list[str]) -> RunDirectory:
    """A run whose only checkpoint is an attack."""
    run = RunDirectory(tmp_path / "run")
    write_yaml(run.config, to_plain(load(tiny).config))
    run.checkpoints.mkdir()
    torch.save({"state_dict": {"model.x": Attack(canary)}, "global_step": 2}, checkpoint_path(run.checkpoints, 2))
    return run


def test_a_checkpoint_is_never_unpickled(poisoned: RunDirectory, canary: Path) -> None:
    path = checkpoint_path(poisoned.checkpoints, 2)
    with pytest.raises(InputError, match="damaged"):
        export(poisoned, poisoned.path / "out")
    # What Lightning itself is given to load with, were it to come so far.
    with pytest.raises(pickle.UnpicklingError):
        AtomicCheckpointIO().load_checkpoint(path)
    assert damage(path) is not None
    assert last_good_checkpoint(poisoned.checkpoints) == (0, None)
    assert not canary.exists()


# Models and tokenizers.


def test_weights_are_never_unpickled(tiny_model: Path, tmp_path: Path, canary: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Attack(canary)}, model / "pytorch_model.bin")
    with pytest.raises(InputError, match="no causal language model could be loaded"):
        load_pretrained(str(model), key="model.path", attention="sdpa")
    assert not canary.exists()


@pytest.fixture
def with_code(tiny_model: Path, tmp_path: Path, canary: Path) -> Path:
    """A model directory that brings its own code."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    code = f"open({str(canary)!r}, 'w').close()\nfrom transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
    code += "class OwnConfig(LlamaConfig):\n    model_type = 'own'\nclass Own(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    (model / "own.py").write_text(code + "class OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n")
    config = json.loads((model / "config.json").read_text())
    brings = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    (model / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": brings}))
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    brings = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
    (model / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "tokenizer_class": "OwnTokenizer", "auto_map": brings}))
    return model


def test_a_model_with_code_of_its_own_is_refused(with_code: Path, canary: Path, tiny_text: Any) -> None:
    with pytest.raises(InputError, match=r"auto_map.*harness --trust-remote-code"):
        load(tiny_text.pretrained(with_code))
    with pytest.raises(InputError, match=r"tokenizer.path=.*auto_map"):
        load([*tiny_text.overrides, f"tokenizer.path={with_code}"])
    # Nor does it run where a check was forgotten.
    with pytest.raises(InputError):
        load_pretrained(str(with_code), key="model.path", attention="sdpa")
    with pytest.raises(InputError):
        tokenizer_at(str(with_code), key="tokenizer.path")
    assert not canary.exists()


def test_no_key_of_a_configuration_can_allow_it(with_code: Path, tiny_text: Any) -> None:
    for key in ("model.trust_remote_code", "tokenizer.trust_remote_code"):
        with pytest.raises(InputError, match="unknown key"):
            load([*tiny_text.pretrained(with_code), f"{key}=true"])


def test_it_runs_when_the_command_line_names_it(
    with_code: Path, canary: Path, tiny_text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUST_VARIABLE, "")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    trust(["/another/model"])
    with pytest.raises(InputError, match="auto_map"):
        load(tiny_text.pretrained(with_code))
    trust(["/another/model", str(with_code)])
    load(tiny_text.pretrained(with_code))
    load_pretrained(str(with_code), key="model.path", attention="sdpa")
    assert canary.exists()


# Configurations.


@pytest.mark.parametrize(
    "callback",
    [
        {"_target_": "os.system", "command": "touch {canary}"},
        # A dotted path goes through what a module has imported.
        {"_target_": "lightning.pytorch.callbacks.model_checkpoint.os.system", "command": "touch {canary}"},
        {"_target_": "lightning.pytorch.callbacks.LambdaCallback", "on_fit_start": {"_target_": "os.system", "command": "touch {canary}"}},
        {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": {"_target_": "os.system", "command": "touch {canary}"}},
        {"_target_": "lightning.pytorch.callbacks.Timer", "duration": [{"_target_": "os.system", "_args_": ["touch {canary}"]}]},
        {"_target_": "builtins.eval", "_args_": ["open('{canary}', 'w')"]},
    ],
)
def test_only_named_callbacks_with_plain_arguments_are_built(
    callback: dict[str, Any], tiny: list[str], tmp_path: Path, canary: Path
) -> None:
    plain = to_plain(load(tiny).config)
    plain["trainer"]["callbacks"] = {"bad": json.loads(json.dumps(callback).replace("{canary}", str(canary)))}
    write_yaml(tmp_path / "config.yaml", plain)
    with pytest.raises(InputError, match=r"trainer\.callbacks\.bad"):
        load_file(tmp_path / "config.yaml")
    assert not canary.exists()


def test_every_callback_that_is_allowed_is_one_of_lightnings() -> None:
    from lightning.pytorch import Callback, callbacks

    assert CALLBACKS == "lightning.pytorch.callbacks."
    for name, takes in CALLBACK_ARGUMENTS.items():
        made = getattr(callbacks, name)
        assert issubclass(made, Callback)
        assert not issubclass(made, callbacks.Checkpoint)
        accepted = inspect.signature(made.__init__).parameters
        assert set(takes) <= set(accepted)
        assert not [argument for argument in takes if re.search("path|dir|file", argument)], "callbacks write no files"


CODE_IN_YAML = "optim: !!python/object/apply:os.system ['touch {canary}']\n"


@pytest.mark.parametrize("place", ["config.yaml", "sweep.yaml", "conf/experiment/evil.yaml", "conf/experiment/best/evil.yaml"])
def test_yaml_makes_plain_values_only(place: str, tiny: list[str], tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CODE_IN_YAML.replace("{canary}", str(canary)))
    experiment = f"experiment={place.removeprefix('conf/experiment/').removesuffix('.yaml')}"
    read: dict[str, Callable[[], object]] = {"config.yaml": lambda: load_file(path), "sweep.yaml": lambda: load_sweep(str(path), [])}
    with pytest.raises(InputError, match=r"not valid YAML|cannot be read as YAML"):
        read.get(place, lambda: load([*tiny, experiment]))()
    assert not canary.exists()


@pytest.mark.parametrize("text", ["${oc.env:SECRET_OF_MINE}", "x-${oc.env:SECRET_OF_MINE,y}", "${ oc.decode:'${oc.env:SECRET_OF_MINE}'}"])
def test_a_recipe_cannot_read_the_environment(text: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "hunter2")
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "conf/experiment/best/evil.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(f"# @package _global_\ntracking: {{name: wandb, project: {json.dumps(text)}}}\n")
    with pytest.raises(InputError, match="a recipe holds values") as raised:
        load([*tiny, "experiment=best/evil"])
    assert "hunter2" not in str(raised.value)
    # A resolved configuration is never resolved again: the text stays a text.
    write_yaml(tmp_path / "config.yaml", {**to_plain(load(tiny).config), "tracking": {"name": "wandb", "tags": [text]}})
    assert load_file(tmp_path / "config.yaml").tracking.tags == [text]
    write_yaml(tmp_path / "config.yaml", {"optim": {"name": text}})
    with pytest.raises(InputError, match="no interpolations"):
        recipe_values(tmp_path / "config.yaml", template=tmp_path / "none.jinja")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.path", "/etc"),
        ("tokenizer.path", "../../secrets"),
        ("data.sources.domain.path", "~/.ssh/id_rsa"),
        ("data.validation.domain.path", "file:///etc/passwd"),
        ("trainer.callbacks.save.dirpath", "/home/x/.config/autostart"),
        ("data.chat_template", "../../x.jinja"),
    ],
)
def test_a_recipe_names_no_place_on_the_disk(key: str, value: str, tiny: list[str], tmp_path: Path) -> None:
    values: dict[str, Any] = {"seed": 1}
    node = values
    *parents, last = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        recipe_values(tmp_path / "config.yaml", template=tmp_path / "chat_template.jinja")


def test_a_recipe_does_not_choose_accounts_and_caches_of_its_reader(tmp_path: Path) -> None:
    theirs = {"seed": 1, "tracking": {"mode": "online", "entity": "thief"}, "data": {"cache_dir": "/x", "packing": "concat"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(theirs))
    found = recipe_values(tmp_path / "config.yaml", template=tmp_path / "chat_template.jinja")
    assert found == {"seed": 1, "data": {"packing": "concat"}}


def test_names_of_bundles_lead_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/experiment/best").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / BUNDLE_FILE).write_text("{}")
    assert named_bundle("../../../outside") is None
    assert find_bundle("best/../../../outside") is None
    # A table is values, whatever its file is called.
    (tmp_path / "trials.parquet").write_bytes(pickle.dumps(Attack(tmp_path / "attacked")))
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_trials(tmp_path / "trials.parquet")
    with pytest.raises(InputError, match=r"bundle\.json: damaged"):
        BundleDirectory(tmp_path / "outside").read()
    assert not (tmp_path / "attacked").exists()


# Chat templates.


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch {canary}') }}",
        "{{ raise_exception.__globals__['__builtins__']['open']('{canary}', 'w') }}",
        "{% for m in messages %}{{ m.__class__.__init__.__globals__ }}{% endfor %}",
        "{{ messages.append('x') }}",
    ],
)
def test_chat_templates_are_confined(source: str, canary: Path) -> None:
    template = ChatTemplate(source.replace("{canary}", str(canary)), "evil", variables={}, control_tokens=[])
    with pytest.raises(MalformedError):
        template.render(Conversation((Message("user", "hello"), Message("assistant", "yes"))), turns=[], spans=False)
    assert not canary.exists()
