"""What other tools call our keys: hints for those who come from them, in messages about unknown keys."""

from __future__ import annotations

ALIASES = {
    # transformers, TRL, Axolotl, LLaMA-Factory, torchtune, litgpt, peft: by the last part of the key.
    "adam_beta1": "optim.betas",
    "adam_beta2": "optim.betas",
    "adam_epsilon": "optim.eps",
    "attn_implementation": "model.attention",
    "base_model": "model.path",
    "bf16": "trainer.precision",
    "block_size": "data.context_length",
    "cutoff_len": "data.context_length",
    "datasets": "data.sources",
    "dataset": "data.sources",
    "epochs": "trainer.max_epochs",
    "eval_steps": "trainer.evaluate_every_steps",
    "fp16": "trainer.precision",
    "global_batch_size": "trainer.batch_tokens",
    "gradient_accumulation_steps": "trainer.batch_tokens",
    "grad_clip": "optim.gradient_clip_norm",
    "learning_rate": "optim.lr",
    "logging_steps": "trainer.log_every_steps",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "lora_r": "adapter.rank",
    "lora_rank": "adapter.rank",
    "lora_target_modules": "adapter.target_modules",
    "lr": "optim.lr",
    "lr_scheduler": "schedule",
    "lr_scheduler_type": "schedule",
    "max_grad_norm": "optim.gradient_clip_norm",
    "max_length": "data.context_length",
    "max_lr": "optim.lr",
    "max_seq_len": "data.context_length",
    "max_seq_length": "data.context_length",
    "max_steps": "trainer.max_steps",
    "micro_batch_size": "trainer.micro_batch_size",
    "min_lr": "schedule.floor",
    "model_max_length": "data.context_length",
    "model_name_or_path": "model.path",
    "num_epochs": "trainer.max_epochs",
    "num_train_epochs": "trainer.max_epochs",
    "optimizer": "optim",
    "output_dir": "--dir",
    "per_device_train_batch_size": "trainer.micro_batch_size",
    "sample_packing": "data.packing",
    "save_steps": "trainer.checkpoint_every_steps",
    "seq_length": "data.context_length",
    "sequence_len": "data.context_length",
    "train_file": "data.sources.NAME.path",
    "train_on_inputs": "data.loss_on",
    "wandb_project": "tracking.project",
    "warmup_ratio": "schedule.warmup",
    "warmup_steps": "schedule.warmup",
}
"""Our key, group or option by another tool's key."""


def alias_of(key: str) -> str | None:
    """What a key of another tool is called here, by its last part; None for one that is not known."""
    return ALIASES.get(key.rpartition(".")[2].replace("-", "_").lower())
