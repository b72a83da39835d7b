"""What a run exports is what it trained, for those who know nothing of the harness."""

from __future__ import annotations

import errno
import json
import shutil
import stat
from pathlib import Path
from unittest import mock

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.validate import to_plain
from harness.models.language_model import build_model
from harness.models.tokenizer import load_tokenizer
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.training.export import export
from tests.support.corpus import TinyText
from tests.training.conftest import NewRun
from tests.training.runs import final_state, train_here


@pytest.mark.parametrize(("tied", "final"), [("true", "full"), ("false", "weights")])
def test_round_trip(new_run: NewRun, tmp_path: Path, tied: str, final: str) -> None:
    config, run = new_run("run", f"model.tie_embeddings={tied}", f"trainer.final_checkpoint={final}")
    train_here(run)
    export(run, tmp_path / "out")
    trained = build_model(config.model, load_tokenizer(config), seed=1).eval()
    trained.load_state_dict({name.removeprefix("model."): value for name, value in final_state(run)["state_dict"].items()})
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    inputs = tokenizer("the river runs past 7 old mills", return_tensors="pt")
    with torch.no_grad():
        expected = trained(input_ids=inputs["input_ids"], use_cache=False).logits
        assert torch.equal(exported(input_ids=inputs["input_ids"]).logits, expected)
    assert exported.config.use_cache is True
    assert exported.config.tie_word_embeddings is (tied == "true")
    assert "| val/domain/loss |" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("adapter", [False, True])
def test_others_may_read_it(
    new_run: NewRun, tiny_text: TinyText, tiny_model: Path, tmp_path: Path, umask_of_a_group: None, adapter: bool
) -> None:
    """safetensors writes files that only their owner may read."""
    _, run = new_run("run", "adapter=lora", *tiny_text.pretrained(tiny_model))
    train_here(run)
    export(run, tmp_path / "out", adapter=adapter)
    written = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}
    assert {"adapter_model.safetensors" if adapter else "model.safetensors", "tokenizer.json", "README.md"} <= written.keys()
    assert written.pop("out") == 0o750
    assert set(written.values()) == {0o640}


@pytest.mark.parametrize("adapter", [False, True])
def test_nothing_private_goes_to_a_hub_with_it(
    new_run: NewRun, tiny_text: TinyText, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: bool
) -> None:
    monkeypatch.setenv("DBPW", "hunter2secret")
    tracked = ("tracking.name=wandb", "tracking.entity=ottilie", "tracking.project=loot", f"data.cache_dir={tmp_path}/cache")
    prompt = (
        "data.context_length=16",
        "adapter=soft_prompt",
        "adapter.tokens=4",
        "adapter.init_text='ask ottilie@example.org in /home/ottilie/notes with hunter2secret'",
    )
    _, run = new_run("run", *tiny_text.pretrained(tiny_model), *tracked, *prompt)
    train_here(run)
    export(run, tmp_path / "out", adapter=adapter)
    private = ["hunter2secret", "ottilie", "loot", str(tmp_path), str(tiny_text.domain.parent), str(tiny_model.parent)]
    for file in (tmp_path / "out").iterdir():
        if file.name == "adapter_config.json":  # peft loads the base from there
            continue
        said = file.read_bytes().decode(errors="ignore")
        assert not [word for word in private if word in said], file
    assert "init_text: ask REMOVED in notes with REMOVED" in (tmp_path / "out/README.md").read_text()


def test_training_goes_on_from_an_export(new_run: NewRun, tiny_text: TinyText, tmp_path: Path) -> None:
    _, run = new_run("run")
    before = train_here(run)
    export(run, tmp_path / "out")
    again = RunDirectory(tmp_path / "runs" / "again")
    write_yaml(again.config, to_plain(load(tiny_text.pretrained(tmp_path / "out")).config))
    train_here(again)
    assert again.metrics.rows()[0]["val/domain/loss"] == pytest.approx(before.metrics["val/domain/loss"], rel=1e-6)


def test_what_cannot_be_exported(new_run: NewRun, tmp_path: Path) -> None:
    _, run = new_run("run", "trainer.final_checkpoint=none")
    train_here(run)
    with pytest.raises(InputError, match=r"it has no checkpoint \(trainer\.final_checkpoint"):
        export(run, tmp_path / "out")
    _, run = new_run("other")
    train_here(run)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(InputError, match="exists and is not empty"):
        export(run, tmp_path / "out")


def test_a_damaged_checkpoint_is_not_exported(new_run: NewRun, tmp_path: Path) -> None:
    _, run = new_run("run")
    train_here(run)
    [path] = run.checkpoints.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        export(run, tmp_path / "out")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")]
)
def test_a_full_disk_leaves_nothing_of_an_export(
    new_run: NewRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _, run = new_run("run", "trainer.max_steps=1")
    train_here(run)
    (tmp_path / "to" / "out").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr("harness.training.export.model_card", mock.Mock(side_effect=error))
        with pytest.raises(InputError, match=r"out: cannot be written: .*No space left on device; the disk at /\S* is full"):
            export(run, tmp_path / "to" / "out")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["out"]
    assert not any((tmp_path / "to" / "out").iterdir())
    export(run, tmp_path / "to" / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "to" / "out").eos_token


def test_an_export_needs_no_training_data(new_run: NewRun, tiny_text: TinyText, tmp_path: Path) -> None:
    domain = tmp_path / "domain.jsonl"
    domain.write_bytes(tiny_text.domain.read_bytes())
    _, run = new_run("run", f"data.sources.domain.path={domain}")
    train_here(run)
    domain.unlink()
    export(run, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("changed", ["tokenizer", "model"])
@pytest.mark.parametrize("adapter", [False, True])
def test_what_changed_since_training_is_not_exported(
    new_run: NewRun, tiny_text: TinyText, tiny_model: Path, tmp_path: Path, changed: str, adapter: bool
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    _, run = new_run("run", *tiny_text.pretrained(base), "tokenizer.path=null", "adapter=lora")
    train_here(run)
    file = base / ("tokenizer.json" if changed == "tokenizer" else "config.json")
    document = json.loads(file.read_text())
    if changed == "tokenizer":
        merges = document["model"]["merges"]
        document["model"]["merges"] = [merges[1], merges[0], *merges[2:]]
    else:
        document["rms_norm_eps"] = 1e-3
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=rf"the {changed} changed since it was trained.* valid: model\.path as it was then"):
        export(run, tmp_path / "out", adapter=adapter)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stored", "dtype", "written"),
    [("bfloat16", None, "bfloat16"), ("bfloat16", "float32", "float32"), ("float32", None, "float32"), ("float32", "float16", "float16")],
)
def test_weights_are_written_in_the_precision_of_the_base(
    new_run: NewRun, tiny_text: TinyText, tiny_model: Path, tmp_path: Path, stored: str, dtype: str | None, written: str
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(tiny_model).to(getattr(torch, stored)).save_pretrained(base)
    _, run = new_run("run", *tiny_text.pretrained(base))
    train_here(run)
    export(run, tmp_path / "out", dtype=dtype)
    assert {tensor.dtype for tensor in safetensors.torch.load_file(tmp_path / "out" / "model.safetensors").values()} == {
        getattr(torch, written)
    }
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (base, tmp_path / "out"))
    assert after == {**before, "dtype": written}


def test_an_adapter_finds_its_base_from_anywhere(
    new_run: NewRun, tiny_text: TinyText, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    _, run = new_run("run", *tiny_text.pretrained(Path("base")), "adapter=lora")
    train_here(run)
    export(run, tmp_path / "out", adapter=True)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tmp_path / "base")
    with pytest.raises(InputError, match="--dtype float16: not with --adapter"):
        export(run, tmp_path / "other", adapter=True, dtype="float16")


def test_an_export_that_fails_leaves_nothing(new_run: NewRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = new_run("run")
    train_here(run)

    def full(directory: Path, **options: object) -> None:
        (Path(directory) / "config.json").write_text("{}")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("transformers.PreTrainedModel.save_pretrained", lambda self, directory, **options: full(directory))
        with pytest.raises(InputError, match=r"out: cannot be written: .*No space left"):
            export(run, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "runs"]
    assert not any((tmp_path / "out").iterdir())
    export(run, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()
