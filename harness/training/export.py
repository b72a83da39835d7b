"""A trained run as a plain transformers checkpoint: weights, configuration, tokenizer and a card that says where it comes from."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from harness.config.errors import InputError
from harness.config.load import load_file
from harness.config.schema import Config, OptimConfig
from harness.data.chat.template import template_source
from harness.models.language_model import build_model
from harness.models.tokenizer import load_tokenizer
from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml, write_text
from harness.runs.result import Result, read_result
from harness.training.checkpoints import checkpoints, damage


def export(run: RunDirectory, out: Path) -> None:
    """Write the run's last weights to the directory `out`, which plain `from_pretrained` loads.

    Raises InputError when the run has no checkpoint or `out` is in use.
    """
    stored = checkpoints(run.checkpoints)
    if not stored:
        raise InputError(f"{run.path}: no checkpoint to export (trainer.final_checkpoint decides what a complete run keeps)")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty")
    checkpoint_path = stored[max(stored)]
    problem = damage(checkpoint_path)
    if problem is not None:
        raise InputError(f"{checkpoint_path}: the run's last checkpoint is damaged ({problem})")
    config = load_file(run.config)
    tokenizer = load_tokenizer(config)
    model = build_model(config.model, tokenizer, seed=config.seed)
    checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=True)
    prefix = "model."
    model.load_state_dict(
        {name.removeprefix(prefix): tensor for name, tensor in checkpoint["state_dict"].items() if name.startswith(prefix)}
    )
    if config.objective.name == "sft":
        # The tokenizer goes out with the template that the model was trained with.
        tokenizer.chat_template, _ = template_source(config.data.chat_template, tokenizer.chat_template)
    # It was off for training alone, see build_model.
    model.config.use_cache = True
    try:
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error}") from error
    write_text(out / "README.md", _card(run, read_result(run), config))


def _card(run: RunDirectory, result: Result, config: Config) -> str:
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in result.metrics.items() if name.startswith("val/"))
    resolved = yaml.safe_dump(read_yaml(run.config), sort_keys=False)
    return f"""# {run.name}

Trained by harness {result.versions.get("harness", "")}: {result.step} steps, {result.tokens.trained:,} tokens.{_averaged(config.optim)}

| metric | value |
|---|---|
{metrics}

Losses are nats per token. The run's configuration:

```yaml
{resolved}```
"""


def _averaged(optim: OptimConfig) -> str:
    """Which weights these are, where they are not simply the last ones."""
    if optim.ema_decay is not None:
        return f"\nThe weights are an exponential moving average of those under training (decay {optim.ema_decay})."
    return "\nThe weights are the average that schedule-free training keeps." if optim.name == "schedule_free" else ""
