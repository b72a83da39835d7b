"""Export a run as a plain transformers checkpoint, or as a peft adapter, with its tokenizer and a model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.load import load_file
from harness.config.schema import Config
from harness.data.chat.encoder import build_chat_encoder
from harness.data.chat.template import template_source
from harness.models.adapters.build import build_adapted_model
from harness.models.adapters.plain import initial_factors, merge, prompt_names, write_adapter
from harness.models.adapters.prompt_tokens import prepend_to_every_text
from harness.models.checkpoint_files import last_weights
from harness.models.tokenizer import load_tokenizer
from harness.runs.directory import RunDirectory
from harness.runs.files import give_umask_rights, replacing_directory, write_text
from harness.runs.machine_faults import machine_fault
from harness.runs.result import read_result
from harness.training.model_card import model_card


def export(run: RunDirectory, out: Path, *, adapter: bool = False) -> None:
    """Write the run's last weights to the directory `out`, which plain `from_pretrained` loads.

    adapter: only what was added to the model, for peft; else it is merged into the model. Raises InputError when the run has no checkpoint
    or nothing that was added, or `out` is in use.
    """
    config = load_file(run.config)
    weights = last_weights(run)
    if adapter:
        _refuse_without_adapter(config)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty")
    tokenizer = load_tokenizer(config)
    stop = None
    in_conversations = "chat_template" in read_result(run).fingerprints
    if in_conversations:
        # The tokenizer goes out with the template that the model was trained with.
        stop = build_chat_encoder(config.data, tokenizer).stop_token()
        tokenizer.chat_template, _ = template_source(config.data.chat_template, tokenizer.chat_template)
    prompt = prompt_names(tokenizer, config.adapter.tokens)
    # What the run began with, without the weights of model.checkpoint: an adapter is of the model at model.path.
    adapted = build_adapted_model(replace(config, model=replace(config.model, checkpoint=None)), tokenizer)
    initial = initial_factors(adapted) if adapter and config.adapter.variant == "pissa" else None
    adapted.model.load_state_dict(weights)
    # It was off for training alone, see build_model.
    adapted.model.config.use_cache = True
    try:
        with replacing_directory(out) as part:
            if adapter:
                assert config.model.path is not None, "checked"
                write_adapter(adapted, tokenizer, part, base=config.model.path, initial=initial)
            else:
                model: Any = merge(adapted, tokenizer)
                _set_generation(model, tokenizer, stop)
                model.save_pretrained(part)
            in_vocabulary = bool(prompt) and prompt[0] in tokenizer.get_vocab()
            if in_vocabulary:
                prepend_to_every_text(tokenizer, prompt)
                if tokenizer.chat_template:
                    tokenizer.chat_template = "".join(prompt) + tokenizer.chat_template
            tokenizer.save_pretrained(part)
            write_text(part / "README.md", model_card(run, config, read_result(run), prompt=prompt, adapter=adapter))
            give_umask_rights(*part.rglob("*"))
    except Exception as error:
        # safetensors and tokenizers have errors of their own for a full disk.
        fault = machine_fault(error, out)
        if fault is None and not isinstance(error, OSError):
            raise
        raise InputError(f"{out}: cannot be written: {fault or error}") from error


def _refuse_without_adapter(config: Config) -> None:
    if config.adapter.name == "none":
        raise InputError("--adapter: the run trained all weights (adapter=none); valid for it: export without --adapter")
    if config.model.path is None:
        raise InputError(
            "--adapter: the run's model began from scratch (model.path is null), and nobody has the weights that its adapter goes with; "
            "valid for it: export without --adapter"
        )


def _set_generation(model: Any, tokenizer: Any, stop: int | None) -> None:
    """Set what generate() needs: stop and padding tokens, the longest text, and tokens to suppress."""
    generation = model.generation_config
    own = generation.eos_token_id
    ends = [stop, *(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
    ends = list(dict.fromkeys(token for token in ends if token is not None))
    if ends:
        generation.eos_token_id = ends[0] if len(ends) == 1 else ends
        if generation.pad_token_id is None:
            generation.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    generation.max_length = getattr(model.config, "max_position_embeddings", None)
    vocabulary = tokenizer.get_vocab()
    prompt = [index for token, index in vocabulary.items() if token.startswith("<|prompt_")]
    if prompt:
        generation.suppress_tokens = sorted(prompt)
