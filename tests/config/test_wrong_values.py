"""A wrong value ends before any work starts, in a message that names the key, the value and what would be valid."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.config.load import load, load_file
from harness.config.locations import choices, sweep_names
from harness.config.overrides import ValueOverride, parse
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.files import write_yaml
from tests.support.corpus import TinyText


def message(overrides: list[str]) -> str:
    """The message that these overrides end in."""
    with pytest.raises(InputError) as caught:
        load(overrides)
    return str(caught.value)


WRONG: dict[str, tuple[list[str], list[str]]] = {
    # The optimizer.
    "schedule-free with a decay": (["optim=schedule_free", "schedule=wsd"], ["schedule.name=wsd", "valid: schedule=constant"]),
    "schedule-free with another average": (
        ["optim=schedule_free", "optim.ema_decay=0.9"],
        ["optim.ema_decay=0.9", "valid: optim.ema_decay=null"],
    ),
    "schedule-free without an average": (["optim=schedule_free", "optim.betas=[0,0.9]"], ["optim.betas=[0.0, 0.9]", "must be > 0"]),
    "another optimizer's key": (["optim=lion", "optim.momentum=0.9"], ["optim.momentum has no effect with optim.name=lion", "muon"]),
    "fused and scaled": (["trainer.precision=16-mixed"], ["optim.implementation=fused", "valid: foreach, single"]),
    "flash attention on packed rows": (
        ["model.attention=flash_attention_2"],
        ["data.packing=best_fit", "valid: auto, varlen, sdpa, eager"],
    ),
    # References.
    "a path like a reference": (
        ["data.sources.docs.path=d/${z}.jsonl"],
        ["data.sources.docs.path", "${z}", "not found", r"valid: d/\${z}.jsonl"],
    ),
    "a variable that is not set": (
        ["model.path=${oc.env:NO_SUCH_VARIABLE}"],
        ["model.path", "${oc.env:NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE' not found"],
    ),
    # The samplers of tokens.
    "a sampler twice": (["sampling.order=[min_p,top_p,min_p]"], ["sampling.order", "min_p stands there twice"]),
    "an unknown sampler": (["sampling.order=[min_p,tfs]"], ["sampling.order", "top_n_sigma"]),
    "a sampler that is not in the order": (
        ["sampling=top_p", "sampling.order=[min_p,temperature]"],
        ["sampling.top_p=0.95", "not in sampling.order", "valid:"],
    ),
    "two that choose": (
        ["sampling=mirostat", "sampling.adaptive_target=0.3"],
        ["sampling.mirostat_tau=5.0", "sampling.adaptive_target=0.3", "valid: one of them"],
    ),
    "one that chooses too early": (
        ["sampling=mirostat", "sampling.temperature=0.8", "sampling.order=[mirostat,temperature]"],
        ["sampling.order", "mirostat", "follows temperature"],
    ),
    "greedy, and drawing": (
        ["sampling=greedy", "sampling.xtc_probability=0.5"],
        ["sampling.xtc_probability=0.5", "sampling.temperature=0", "valid: a temperature above 0"],
    ),
    "greedy that is not": (["sampling=greedy", "sampling.temperature=0.5"], ["sampling.temperature=0.5", "greedy", "valid: 0"]),
    "a probability above one": (["sampling.top_p=1.1"], ["sampling.top_p=1.1", "<= 1"]),
    "a threshold that can never be met": (["sampling.xtc_threshold=0.6"], ["sampling.xtc_threshold=0.6", "<= 0.5"]),
    # Tracking: the client's own limits.
    "a tag that is too long": (["tracking=wandb", f"tracking.tags=[a,{'b' * 65}]"], ["tracking.tags[1]=bbb", "65 characters", "1 to 64"]),
    "an empty tag": (["tracking=wandb", "tracking.tags=['']"], ["tracking.tags[0]=", "1 to 64"]),
    "a project with a slash": (["tracking=wandb", "tracking.project=me/this"], ["tracking.project=me/this", "takes no /", "\\ # ? % :"]),
    "a project that is too long": (["tracking=wandb", f"tracking.project={'p' * 129}"], ["tracking.project=ppp", "at most 128"]),
    "a model that is not kept": (
        ["tracking=wandb", "tracking.log_model=best", "trainer.final_checkpoint=none"],
        ["tracking.log_model=best", "valid: trainer.final_checkpoint=weights"],
    ),
    "an entity with its project": (["tracking=wandb", "tracking.entity=me/this"], ["tracking.entity=me/this", "without the project"]),
    # Keys.
    "unknown key": (["optim.learning_rate=1"], ["'optim.learning_rate'", "the command line", "Valid in optim: name, lr,"]),
    "misspelt key": (["trainer.max_token=1"], ["'trainer.max_token'", "Did you mean 'trainer.max_tokens'?"]),
    "misspelt section": (["optm.lr=1"], ["'optm.lr'", "It is optim.lr here", "schedule"]),
    "misspelt key of a source": (
        ["data.sources.domain.feild=x"],
        ["'data.sources.domain.feild'", "Did you mean 'data.sources.domain.field'?"],
    ),
    "key below a value": (["optim.lr.peak=1"], ["'optim.lr.peak'"]),
    "misspelt group": (["schedul=wsd"], ["'schedul'", "Did you mean 'schedule'?", "Groups:", "experiment"]),
    "misspelt choice": (["schedule=wds"], ["schedule=", "'wds'", "Did you mean 'wsd'?", "inverse_sqrt"]),
    "unknown experiment": (["experiment=quikstart"], ["'quikstart'", "Did you mean 'quickstart'?"]),
    "no value": (["optim.lr"], ["'optim.lr'", "KEY=VALUE"]),
    "several values": (["optim.lr=1e-3,1e-2"], ["optim.lr=1e-3,1e-2", "harness sweep"]),
    # Types and ranges.
    "text for a number": (["optim.lr=fast"], ["optim.lr=fast", "a number > 0", "the command line"]),
    "negative": (["optim.lr=-1"], ["optim.lr=-1", "a number > 0"]),
    "zero": (["optim.lr=0"], ["optim.lr=0", "a number > 0"]),
    "not finite": (["optim.lr=nan"], ["optim.lr=nan", "a number > 0"]),
    "infinite": (["optim.lr=inf"], ["optim.lr=inf", "a number > 0"]),
    "a flag for a number": (["optim.lr=true"], ["optim.lr=true", "a number > 0"]),
    "a flag for a count": (["trainer.micro_batch_size=true"], ["trainer.micro_batch_size=true", "an integer >= 1"]),
    "a number for a flag": (["data.append_eos=7"], ["data.append_eos=7", "true or false"]),
    "null for a number": (["optim.lr=null"], ["optim.lr=null", "a number > 0"]),
    "a fraction of a step": (["trainer.max_steps=2.5"], ["trainer.max_steps=2.5", "an integer >= 0 or null"]),
    "fewer than no step": (["trainer.max_steps=-1"], ["trainer.max_steps=-1", "an integer >= 0"]),
    "unknown kind": (["data.packing=bestfit"], ["data.packing=bestfit", "one of best_fit, concat, padded"]),
    "above the range": (["data.replay_share=1"], ["data.replay_share=1", ">= 0 and < 1"]),
    "empty text": (["data.sources.domain.field=''"], ["data.sources.domain.field=", "non-empty text"]),
    "a list that is too short": (["optim.betas=[0.9]"], ["optim.betas", "a list of 2"]),
    "a value in a list": (["optim.betas=[0.9,2]"], ["optim.betas", "< 1"]),
    "a value for a section": (["optim=3"], ["optim=3", "a configuration group", "adamw"]),
    "a mapping for a number": (["optim.lr={a: 1}"], ["optim.lr", "a number > 0"]),
    "a value for a nested section": (["tokenizer=3"], ["tokenizer=3", "a section"]),
    "a list for a mapping": (["data.sources=[a]"], ["data.sources", "a mapping"]),
    # What several keys must agree on.
    "warm-up of too many steps": (["schedule.warmup=5"], ["schedule.warmup=5", "5 steps exceeds", "4 steps"]),
    "warm-up of too many tokens": (["schedule.warmup='2e6 tokens'"], ["schedule.warmup=2e6 tokens", "exceeds", "4 steps"]),
    "warm-up that is no length": (["schedule.warmup=long"], ["schedule.warmup=long", "a fraction of the run", "2e6 tokens"]),
    "negative warm-up": (["schedule.warmup=-0.1"], ["schedule.warmup=-0.1", "a fraction of the run"]),
    "warm-up and decay": (
        ["schedule=wsd", "schedule.warmup=0.5", "schedule.decay_fraction=0.75"],
        ["schedule.decay_fraction=0.75", "schedule.warmup=0.5", "4 steps"],
    ),
    "uneven batch": (["trainer.batch_tokens=100"], ["trainer.batch_tokens=100", "a multiple of data.context_length=32", "96"]),
    "uneven micro-batch": (["trainer.micro_batch_size=3"], ["trainer.micro_batch_size=3", "4 rows"]),
    "rows that ranks cannot divide": (["trainer.devices=3"], ["trainer.devices=3", "3 ranks", "4 rows"]),
    "a scaler with spread weights": (
        ["trainer.strategy=fsdp2", "trainer.precision=16-mixed", "optim.implementation=foreach"],
        ["trainer.precision=16-mixed", "bf16-mixed"],
    ),
    "an optimizer that cannot be spread": (["trainer.strategy=fsdp2", "optim=muon"], ["optim.name=muon", "valid: adamw"]),
    "no length": (["trainer.max_steps=null"], ["trainer.max_tokens: required", "trainer.max_steps"]),
    "less than a step": (["trainer.max_steps=null", "trainer.max_tokens=100"], ["trainer.max_tokens=100", "trainer.batch_tokens=128"]),
    "an idle key": (["schedule=cosine", "schedule.decay_fraction=0.3"], ["schedule.decay_fraction", "schedule.name=cosine", "only wsd"]),
    "an idle key of tracking": (["tracking.project=x"], ["tracking.project", "tracking.name=none", "only wandb"]),
    "replay of nothing": (["data.sources.general.replay=false"], ["data.replay_share=0.25", ".replay=true"]),
    "replay of everything": (["data.sources.domain.replay=true"], ["data.sources", "every source has .replay=true"]),
    "context longer than the model's": (["data.context_length=64"], ["data.context_length=64", "model.max_context=32"]),
    "heads": (["model.heads=3"], ["model.heads=3", "model.hidden_size=32"]),
    "key-value heads": (["model.heads=4", "model.kv_heads=3"], ["model.kv_heads=3", "model.heads=4"]),
    "validation of an unknown source": (
        ["data.validation.domain.source=domian"],
        ["data.validation.domain.source=domian", "Did you mean 'domain'?"],
    ),
    "validation without a share": (["data.validation.domain.share=null"], ["data.validation.domain.share", "0.05"]),
    "validation from two places": (["data.validation.domain.path=/"], ["data.validation.domain", "either .path, or .source"]),
    "a share of a path": (
        ["data.validation.other.path=/", "data.validation.other.share=0.1"],
        ["data.validation.other.share=0.1", "only beside .source"],
    ),
    "a missing file": (["data.sources.domain.path=/no/file.jsonl"], ["data.sources.domain.path=/no/file.jsonl", "no such file"]),
    "a source without a path": (["data.sources.more.weight=2"], ["data.sources.more.path", "required"]),
    "a missing tokenizer": (["tokenizer.path=./nowhere"], ["tokenizer.path=./nowhere", "no such directory"]),
    "no tokenizer": (["tokenizer.path=null"], ["tokenizer.path", "required for a model from scratch"]),
    "a model that must be given": (["model=pretrained"], ["model.path", "required"]),
    "a missing model": (["model=pretrained", "model.path=/no/model"], ["model.path=/no/model", "no such directory"]),
    "a path that no hub has": (["model=pretrained", "model.path=no/such/model"], ["model.path=no/such/model", "no such directory"]),
    "a word that no hub has": (["model=pretrained", "model.path='no model'"], ["model.path=no model", "no such directory"]),
    "a foreign class": (
        ["trainer.callbacks.bad._target_=os.system"],
        ["trainer.callbacks.bad._target_=os.system", "lightning.pytorch.callbacks.*"],
    ),
    "a list for callbacks": (["trainer.callbacks=[]"], ["trainer.callbacks=[]", "expected a mapping from names to values"]),
    "a list for variables": (["data.chat_template_kwargs=[1]"], ["data.chat_template_kwargs=[1]", "expected a mapping"]),
    "a text for sources": (["data.sources=a.jsonl"], ["data.sources=a.jsonl", "expected a mapping from names to sections"]),
    "a mapping for a list": (["tokenizer.new_tokens={a: 1}"], ["tokenizer.new_tokens={'a': 1}", "expected a list"]),
    "nothing for a mapping": (["trainer.callbacks=null"], ["trainer.callbacks=null", "expected a mapping"]),
    "no class": (["trainer.callbacks.bad.x=1"], ["trainer.callbacks.bad._target_=null"]),
}


@pytest.mark.parametrize(("overrides", "fragments"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values(tiny: list[str], overrides: list[str], fragments: list[str]) -> None:
    text = message([*tiny, *overrides])
    for fragment in fragments:
        assert fragment in text, text
    # A line a problem; no library's own words about types and locations.
    assert len(text.splitlines()) == 1, text
    assert not [word for word in ("pydantic", "ValidationError", "dataclass", "type=") if word in text], text


def test_every_problem_is_named_at_once(tiny: list[str]) -> None:
    text = message([*tiny, "optim.lr=fast", "data.packing=loose"])
    assert "optim.lr=fast" in text
    assert "data.packing=loose" in text
    text = message([*tiny, "schedule.warmup=5", "trainer.batch_tokens=100", "model.heads=3"])
    assert "trainer.batch_tokens=100" in text
    assert "model.heads=3" in text


def test_no_source(tiny_text: TinyText) -> None:
    assert "data.sources" in message([f"tokenizer.path={tiny_text.tokenizer}", "trainer.max_steps=1"])


# Model directories.


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_model_directory_is_fine_as_it_is(tiny_text: TinyText, tiny_model: Path) -> None:
    load(tiny_text.pretrained(tiny_model))


def test_a_model_directory_without_weights(tiny_text: TinyText, copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    text = message(tiny_text.pretrained(copied))
    assert text.startswith(f"model.path={copied}: no weights")
    assert "safetensors" in text


def test_a_model_directory_without_config(tiny_text: TinyText, copied: Path) -> None:
    (copied / "config.json").unlink()
    assert "config.json" in message(tiny_text.pretrained(copied))


def test_a_context_longer_than_the_pretrained_models(tiny_text: TinyText, copied: Path) -> None:
    text = message([*tiny_text.pretrained(copied), "data.context_length=64"])
    assert "data.context_length=64" in text
    assert "32 tokens" in text
    assert f"{copied}/config.json" in text


def test_a_context_inside_a_multimodal_models_text_config(tiny_text: TinyText, copied: Path) -> None:
    """Without a limit at its top level config.json promises nothing; the model itself decides."""
    config = json.loads((copied / "config.json").read_text())
    del config["max_position_embeddings"]
    (copied / "config.json").write_text(json.dumps(config))
    load([*tiny_text.pretrained(copied), "data.context_length=64", "trainer.batch_tokens=128"])


def test_a_tokenizer_directory_without_a_tokenizer(tiny: list[str], tmp_path: Path) -> None:
    text = message([*tiny, f"tokenizer.path={tmp_path}"])
    assert text == f"tokenizer.path={tmp_path}: no tokenizer.json in it"


# Files that people write.


@pytest.mark.parametrize("given", ["model=pretrained", "experiment=cpt"])
def test_what_a_file_leaves_open_must_be_given(tiny: list[str], tiny_model: Path, given: str) -> None:
    """A pretrained model without its path would be trained from scratch, since the schema's default is null."""
    rest = ["data.sources.target.path=/", "data.sources.general.path=/", "data.sources.domain.replay=false"]
    text = message([*tiny, *rest, given])
    assert text == "model.path: required, give it on the command line: model.path=…"
    assert load([*tiny, *rest, given, f"model.path={tiny_model}"]).config.model.path == str(tiny_model)


def test_what_one_file_leaves_open_another_may_give(
    tiny: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "conf/experiment/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"# @package _global_\ndefaults:\n  - override /model: pretrained\nmodel: {{path: {tiny_model}}}\n")
    assert load([*tiny, "experiment=mine"]).config.model.path == str(tiny_model)


def test_a_misspelt_key_in_a_file_names_the_file(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "conf/optim/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("name: adamw\nweigth_decay: 0.2\n")
    text = message([*tiny, "optim=mine"])
    assert "'optim.weigth_decay'" in text
    assert "Did you mean 'optim.weight_decay'?" in text
    assert str(path) in text


def test_a_wrong_value_in_a_file_names_the_file(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "conf/experiment/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\noptim: {lr: quick}\n")
    text = message([*tiny, "experiment=mine"])
    assert "optim.lr=quick" in text
    assert str(path) in text


BROKEN = {
    "cut": "optim: {lr: 1",
    "a tab": "optim:\n\tlr: 1\n",
    "a choice that is none": "defaults:\n  - override /optim: nope\n",
    "a list": "- 1\n",
    "a word": "true\n",
    "no UTF-8": b"seed: \x87\n",
    "nested deeply": "[" * 100_000,
    "a huge number": f"seed: {'9' * 5000}\n",
    "a bomb": "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(12)),
    "defaults that are a mapping": "defaults: {a: {b: 1}}\n",
    "a default that is a number": "defaults: [-1]\n",
    "a header of one word": "# @pa\n",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_message(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "conf/experiment/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"# @package _global_\n" + (content if isinstance(content, bytes) else content.encode()))
    text = message([*tiny, "experiment=mine"])
    assert "mine" in text or "'optim/nope'" in text
    assert len(text.splitlines()) == 1, text


def test_what_is_no_file_is_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("conf/experiment", "sweeps"):
        (tmp_path / folder / "folder.yaml").mkdir(parents=True)
        os.mkfifo(tmp_path / folder / "pipe.yaml")
        (tmp_path / folder / "endless.yaml").symlink_to("/dev/zero")
        (tmp_path / folder / "mine.yaml").write_text("seed: 1\n")
    assert {"folder", "pipe", "endless", "mine"} & {*choices("experiment")} == {"mine"}
    assert {"folder", "pipe", "endless", "mine"} & {*sweep_names()} == {"mine"}


def test_a_resolved_configuration_is_checked_when_it_is_read(tiny: list[str], tmp_path: Path) -> None:
    values = to_plain(load(tiny).config)
    path = tmp_path / "config.yaml"
    write_yaml(path, values)
    assert to_plain(load_file(path)) == values
    assert load_file(path, ["optim.lr=0.5"]).optim.lr == 0.5
    with pytest.raises(InputError, match=r"schedule=wsd: with a resolved config only values .*; valid: schedule\.KEY=VALUE"):
        load_file(path, ["schedule=wsd"])
    write_yaml(path, {**values, "optm": {}})
    with pytest.raises(InputError, match=r"unknown key 'optm' .*config\.yaml.* Did you mean 'optim'"):
        load_file(path)
    path.write_text("")
    with pytest.raises(InputError, match="expected a mapping"):
        load_file(path)
    with pytest.raises(InputError, match="no such file"):
        load_file(tmp_path / "absent.yaml")


def test_an_optimizer_whose_library_is_missing_names_the_extra(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.config.checks.optim.find_spec", lambda name: None)
    assert message([*tiny, "optim=muon"]) == (
        "optim.name=muon: needs pytorch_optimizer, which is not installed: pip install 'harness[optimizers]'"
    )
    load(tiny)


@pytest.mark.parametrize(
    "name",
    [
        *("with space", "a,b", "epoch=3-step=40", "set[1]", "x(2)", "{y}", "it's", 'q"q', "$HOME", "a:b", "a&b", "100%", "#1"),
        *("数据", "-dash", "~tilde", "star*", "back\\slash", "null", "a+b@c", " lead"),
    ],
)
def test_a_path_that_the_grammar_cannot_read_is_given_back_as_it_should_be_typed(name: str) -> None:
    path = f"d/{name}.jsonl"
    try:
        found = parse([f"data.sources.docs.path={path}"], Config)
    except InputError as error:
        said = str(error)
        in_quotes, of_several = said.partition("put the value in quotes: ")[2], said.partition(" if it is a list, or ")[2]
        typed = in_quotes or of_several.removesuffix(" if it is one text")
        found = parse(shlex.split(typed), Config)
    assert [override.value for override in found if isinstance(override, ValueOverride)] == [path]


def test_several_paths_are_a_list() -> None:
    with pytest.raises(InputError, match=r"or give 'data\.sources\.docs\.path=\[a\.jsonl,b\.jsonl\]' if it is a list"):
        parse(["data.sources.docs.path=a.jsonl,b.jsonl"], Config)
    assert "if it is" not in message(["optim.lr=1e-3,1e-4"])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("[a.jsonl,nowhere.jsonl]", "data.sources.docs.path=nowhere.jsonl: no such file"),
        ("[]", "data.sources.docs.path=[]: expected non-empty text or a non-empty list, each non-empty text"),
        ("[[a.jsonl]]", "expected non-empty text or a non-empty list"),
        ("{a: b}", "expected non-empty text or a non-empty list"),
    ],
)
def test_a_list_of_paths_is_checked_one_by_one(value: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("{}")
    assert problem in message([f"data.sources.docs.path={value}"])
