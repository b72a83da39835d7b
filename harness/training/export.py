"""Export a run as a plain transformers checkpoint, or as a peft adapter, with its tokenizer and a model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from harness.config.checks import check_model
from harness.config.checks.trainer import trains
from harness.config.errors import InputError
from harness.config.merge_words import renamed_since
from harness.config.schema import Config
from harness.data.chat.encoder import build_chat_encoder
from harness.data.chat.template import plain_jinja, template_fingerprint, template_source
from harness.models.adapters.build import build_adapted_model
from harness.models.adapters.plain import initial_factors, merge, prompt_names, write_adapter
from harness.models.adapters.prompt_tokens import prepend_to_every_text
from harness.models.adapters.steering import steering_in
from harness.models.checkpoint_files import last_weights
from harness.models.language_model import model_fingerprint, part_fingerprints
from harness.models.merged import frame_folder
from harness.models.pretrained import stored_config, stored_dtype
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.runs.directory import RunDirectory
from harness.runs.files import give_umask_rights, replacing_directory, write_text
from harness.runs.machine_faults import machine_fault
from harness.runs.result import read_result
from harness.runs.run_config import load_run_config
from harness.training.generation import set_generation
from harness.training.model_card import model_card
from harness.training.steering import directions_of
from harness.training.steering_export import baked, write_steering


def export(run: RunDirectory, out: Path, *, adapter: bool = False, dtype: str | None = None) -> None:
    """Write the run's last weights to the directory `out`, which plain `from_pretrained` loads; all of it, or nothing.

    adapter: only what was added to the model, for peft (of adapter=steering a vector file); else it is merged into the model. dtype:
    float32, bfloat16 or float16; None: the dtype in which the base is stored, float32 of a model from scratch. Raises InputError when the
    run has no checkpoint or nothing that was added, when tokenizer, chat template or base are not those that were trained, or `out` is in
    use.
    """
    config = load_run_config(run, checked_by=check_model)
    if config.model.merge.method is not None and not trains(config.trainer):
        raise InputError(f"{run.path}: it merged models and trained nothing; valid: harness merge {out} {run.name}")
    # A direction need not be trained to be exported.
    weights = last_weights(run) if trains(config.trainer) or config.adapter.name != "steering" else None
    if adapter:
        _refuse_without_adapter(config)
        if dtype is not None:
            raise InputError(f"--dtype {dtype}: not with --adapter, which keeps the precision in which it was trained")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty")
    tokenizer = load_tokenizer(config)
    trained_with = read_result(run).fingerprints
    _refuse_changes(run, config, tokenizer, trained_with)
    stop = None
    if "chat_template" in trained_with:
        # The tokenizer goes out with the template that the model was trained with.
        stop = build_chat_encoder(config.data, tokenizer).stop_token()
        source, _ = template_source(config.data.chat_template, tokenizer.chat_template)
        tokenizer.chat_template = plain_jinja(source, config.data.chat_template_kwargs)
    prompt = prompt_names(tokenizer, config.adapter.tokens)
    # What the run began with, without the weights of model.checkpoint: an adapter is of the model at model.path.
    begun = replace(config, model=replace(config.model, checkpoint=None))
    adapted = build_adapted_model(begun, tokenizer, directions_of(config, tokenizer))
    initial = initial_factors(adapted) if adapter and config.adapter.variant == "pissa" else None
    if weights is not None:
        adapted.model.load_state_dict(weights)
    try:
        with replacing_directory(out) as directory:
            steering = None if adapted.steering is None else steering_in(adapted.model, adapted.steering)
            if adapter and steering is not None:
                write_steering(directory, config, tokenizer, steering)
            elif adapter:
                assert config.model.path is not None, "checked"
                write_adapter(adapted, tokenizer, directory, base=_from_anywhere(config.model.path), initial=initial)
            else:
                if steering is None:
                    model: Any = merge(adapted, tokenizer)
                else:
                    model, _ = baked(config, tokenizer, adapted.model, steering)
                save_model(directory, model, config, tokenizer, stop=stop, dtype=dtype)
            if prompt and prompt[0] in tokenizer.get_vocab():
                prepend_to_every_text(tokenizer, prompt)
                if tokenizer.chat_template:
                    tokenizer.chat_template = "".join(prompt) + tokenizer.chat_template
            tokenizer.save_pretrained(directory)
            write_text(directory / "README.md", model_card(run, config, read_result(run), prompt=prompt, adapter=adapter))
            give_umask_rights(*directory.rglob("*"))
    except Exception as error:
        # safetensors and tokenizers have errors of their own for a full disk.
        fault = machine_fault(error, out)
        if fault is None and not isinstance(error, OSError):
            raise
        raise InputError(f"{out}: cannot be written: {fault or error}") from error


def save_model(directory: Path, model: Any, config: Config, tokenizer: Any, *, stop: int | None = None, dtype: str | None = None) -> None:
    """Write weights, config.json and generation_config.json. stop: what turns of the assistant end in; dtype: None for that in which the
    model of the configuration is stored."""
    stored = None if (frame := frame_folder(config.model)) is None else frame[1]
    # It was off for training alone, see build_model.
    model.config.use_cache = True if stored is None else getattr(stored_config(stored), "use_cache", True)
    set_generation(model, tokenizer, stop)
    model.to(getattr(torch, dtype) if dtype else stored_dtype(stored)).save_pretrained(directory)


def _from_anywhere(path: str) -> str:
    """The base of an adapter as it is found from any working directory: a hub name stays one."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def _refuse_changes(run: RunDirectory, config: Config, tokenizer: Any, trained_with: dict[str, str]) -> None:
    """Raise InputError for a tokenizer, a chat template or a base that are others by now, as going on with the run would."""
    keys = {
        "tokenizer": "tokenizer.path" if config.tokenizer.path else "model.path",
        "model": "model.path" if config.model.merge.method is None else "the models of model.merge",
        "chat_template": "data.chat_template",
    }
    now = {"tokenizer": tokenizer_fingerprint(tokenizer), "model": model_fingerprint(config.model)}
    if "chat_template" in trained_with:
        chosen, kwargs = config.data.chat_template, config.data.chat_template_kwargs
        now["chat_template"] = template_fingerprint(chosen, tokenizer.chat_template, kwargs)
    changed = [name for name, fingerprint in now.items() if trained_with.get(name, fingerprint) != fingerprint]
    if changed == ["model"] and (renamed := renamed_since(trained_with, part_fingerprints(config.model))) is not None:
        raise InputError(f"{run.path}: {renamed}; valid: to export it with that version")
    if changed:
        raise InputError(
            f"{run.path}: the {' and the '.join(changed)} changed since it was trained, and the export would be of another model; "
            f"valid: {' and '.join(dict.fromkeys(keys[name] for name in changed))} as it was then"
        )


def _refuse_without_adapter(config: Config) -> None:
    if config.adapter.name == "none":
        raise InputError("--adapter: the run trained all weights (adapter=none); valid for it: export without --adapter")
    if config.adapter.name == "steering":
        return  # a vector file tells its model by a fingerprint
    if config.model.path is None:
        if config.model.merge.method is not None:
            raise InputError(
                "--adapter: the run's model is a merge, which nobody has; write it first (harness merge), or export without --adapter"
            )
        raise InputError(
            "--adapter: the run's model began from scratch (model.path is null), and nobody has the weights that its adapter goes with; "
            "valid for it: export without --adapter"
        )
