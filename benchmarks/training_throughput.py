"""Training tokens a second: the harness's train() against a bare PyTorch loop that does the same work, Hugging Face's Trainer and TRL.

    python -m benchmarks.training_throughput [--threads 1] [--rounds 5] [--models llama_1m llama_15m] [--contexts 512 1024]
        [--arms bare hf trl]

All train the same model in float32 on the same tokens with fused AdamW, gradient clipping and a schedule, in one process and by turns; none
evaluates or saves; the harness logs as it does by default, the others nothing. Bare loop and Trainer get the harness's packed rows, [B, L]
with position ids and no mask; TRL packs the same documents itself (bfd_split) and joins the rows of a batch into one, [1, B * L]. The
median of the rounds' ratios is printed: of wall time, and of CPU time, which other users of the machine disturb less. Targets: at least
0.97 of the bare loop, 1.3 of TRL. Before that, whether each arm keeps documents apart: the most that hidden states of other documents
change when the first one does.
"""

from __future__ import annotations

import argparse
import os
import pydoc_data.topics
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.workload import require_modules
from harness.config.load import load
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.data.byte_bpe import train_byte_bpe
from harness.data.dataset import PackedRows, build_loader
from harness.models.language_model import build_model
from harness.optim.build import parameter_groups
from harness.runs.directory import RunDirectory
from harness.runs.files import append_json_line, write_yaml
from harness.runs.lifecycle import LiveResult
from harness.schedule.learning_rate import learning_rate
from harness.training.inputs import load_inputs
from harness.training.plan import Plan
from harness.training.stop_flag import StopFlag
from harness.training.train import train
from harness.work.attempt import ending_of

WARM_UP_STEPS = 2
"""Not timed: the first steps allocate."""
SIZES = {"llama_1m": (2048, 8), "llama_15m": (2048, 3)}
"""Tokens a step, and timed steps, of each model."""
VOCABULARY = 2048

Seconds = tuple[float, float]
"""Wall and CPU."""


def now() -> Seconds:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(start: Seconds) -> Seconds:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


class Stopwatch(Callback):
    """Times the steps after the warm-up; the last of the callbacks, so that logging is in it."""

    seconds: Seconds

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int) -> None:
        if trainer.global_step == WARM_UP_STEPS:
            self.start = now()
        self.seconds = since(self.start) if trainer.global_step > WARM_UP_STEPS else (0.0, 0.0)


def harness(config: Config, directory: Path) -> Seconds:
    run = RunDirectory(directory)
    write_yaml(run.config, to_plain(config))
    stopwatch = Stopwatch()
    with LiveResult(run, ending_of) as live:
        live.ending = train(config, live, stop=StopFlag(), callbacks=[stopwatch])
    return stopwatch.seconds


def planned(config: Config) -> tuple[Any, Plan]:
    """The tokenizer, and the plan over its data, of which the harness trains."""
    inputs = load_inputs(config)
    assert inputs.plan is not None, "a run that trains"
    return inputs.tokenizer, inputs.plan


def bare(config: Config) -> Seconds:
    tokenizer, plan = planned(config)
    model = build_model(config.model, tokenizer, seed=config.seed)
    groups = parameter_groups(config.optim, model)
    optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas, eps=config.optim.eps, fused=True)
    loader = build_loader(plan.data, plan.batch_size, accumulation=plan.accumulation, start_step=0, stop_step=plan.steps)
    assert config.optim.gradient_clip_norm is not None
    start = now()
    for step, batch in enumerate(loader):
        if step == WARM_UP_STEPS:
            start = now()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan.schedule, step)
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.gradient_clip_norm)
        optimizer.step()
    return since(start)


def settings(config: Config, folder: str) -> dict[str, Any]:
    """What Trainer and TRL are told in order to do the same work."""
    rows = config.trainer.batch_tokens // config.data.context_length
    micro = config.trainer.micro_batch_size or rows
    return {
        "output_dir": folder,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": rows // micro,
        "max_steps": config.trainer.max_steps,
        "learning_rate": config.optim.lr,
        "weight_decay": config.optim.weight_decay,
        "adam_beta1": config.optim.betas[0],
        "adam_beta2": config.optim.betas[1],
        "adam_epsilon": config.optim.eps,
        "max_grad_norm": config.optim.gradient_clip_norm,
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "linear",
        "use_cpu": config.trainer.accelerator == "cpu",
        "bf16": config.trainer.precision == "bf16-mixed",
        "gradient_checkpointing": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
    }


def timed(trainer: Any) -> Seconds:
    from transformers import PrinterCallback, TrainerCallback

    marks: dict[str, Seconds] = {}

    class Marks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM_UP_STEPS:
                marks["start"] = now()
            elif state.global_step == state.max_steps:
                marks["seconds"] = since(marks["start"])

    trainer.add_callback(Marks())
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return marks["seconds"]


def hugging_face(config: Config, folder: str, **options: Any) -> Any:
    """transformers.Trainer over the harness's rows; options of its TrainingArguments."""
    from transformers import Trainer as HuggingFaceTrainer
    from transformers import TrainingArguments

    tokenizer, plan = planned(config)
    rows = PackedRows(plan.data)

    class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return int(plan.batch_size.rows_before(plan.steps)[-1])

        def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
            row = rows[position]
            # transformers shifts labels itself.
            return {**row, "labels": torch.cat([torch.tensor([-100]), row["labels"][:-1]])}

    model = build_model(config.model, tokenizer, seed=config.seed)
    return HuggingFaceTrainer(model=model, args=TrainingArguments(**settings(config, folder), **options), train_dataset=Rows())


def trl(config: Config, folder: str, **options: Any) -> Any:
    """trl.SFTTrainer over the same documents, packed by itself; options of its SFTConfig."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    tokenizer, plan = planned(config)
    (source,) = plan.data.sources
    documents = source.documents
    ids = [documents.tokens[start:stop].tolist() for start, stop in zip(documents.offsets, documents.offsets[1:], strict=False)]
    packing = {"packing": True, "packing_strategy": "bfd_split", "max_length": config.data.context_length}
    arguments = SFTConfig(**settings(config, folder), **packing, **options)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return SFTTrainer(
        model=build_model(config.model, tokenizer, seed=config.seed),
        args=arguments,
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        processing_class=tokenizer,
    )


def leak(trainer: Any) -> float:
    """The most that a hidden state changes beyond the first document of a row when only that document's tokens do."""
    for batch in trainer.get_train_dataloader():
        packed = (batch["position_ids"][:, 1:] == 0).any(dim=1).nonzero()
        if len(packed):
            break
    inputs = {name: rows.clone() for name, rows in batch.items() if name in ("input_ids", "position_ids", "attention_mask")}
    row = int(packed[0])
    first = int((inputs["position_ids"][row, 1:] == 0).nonzero()[0]) + 1
    with torch.no_grad():
        before = trainer.model.base_model(**inputs, use_cache=False).last_hidden_state
        inputs["input_ids"][row, :first] = (inputs["input_ids"][row, :first] + 1) % VOCABULARY
        after = trainer.model.base_model(**inputs, use_cache=False).last_hidden_state
    return float((after - before)[row, first:].abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--contexts", nargs="+", type=int, default=[512, 1024])
    parser.add_argument("--arms", nargs="*", choices=["bare", "hf", "trl"], default=["bare", "hf", "trl"])
    arguments = parser.parse_args()
    if "trl" in arguments.arms:
        require_modules("trl", "datasets")
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_CACHE"] = f"{folder}/cache"
        texts = list(pydoc_data.topics.topics.values())
        train_byte_bpe(texts, VOCABULARY, Path(folder) / "tokenizer")
        for text in texts:
            append_json_line(Path(folder) / "text.jsonl", {"text": text})
        cases = [(model, context) for model in arguments.models for context in arguments.contexts]
        configs = {case: configuration(*case, folder, arguments.threads) for case in cases}
        for name, build in (("hf", hugging_face), ("trl", trl)):
            if name in arguments.arms:
                trainer = build(configs[cases[0]], f"{folder}/{name}")
                print(f"{name}: another document changes hidden states by {leak(trainer):.1e}")
        print(f"{os.cpu_count()} cores, {arguments.threads} threads, {arguments.rounds} rounds\n")
        print("| model | context | rows | arm | tokens/s | harness / arm, wall | worst and best | harness / arm, CPU | load |")
        print("|---|---|---|---|---|---|---|---|---|")
        for case, config in configs.items():
            arms: dict[str, Callable[[Path], Seconds]] = {
                "harness": lambda path, config=config: harness(config, path),  # type: ignore[misc]
                "bare": lambda path, config=config: bare(config),  # type: ignore[misc]
                "hf": lambda path, config=config: timed(hugging_face(config, str(path))),  # type: ignore[misc]
                "trl": lambda path, config=config: timed(trl(config, str(path))),  # type: ignore[misc]
            }
            compare(*case, {name: arms[name] for name in ("harness", *arguments.arms)}, arguments.rounds, Path(folder))


def configuration(model: str, context_length: int, folder: str, threads: int) -> Config:
    batch_tokens, steps = SIZES[model]
    return load(
        [
            f"model={model}",
            f"model.max_context={context_length}",
            f"tokenizer.path={folder}/tokenizer",
            f"data.sources.text.path={folder}/text.jsonl",
            f"data.context_length={context_length}",
            f"trainer.batch_tokens={batch_tokens}",
            f"trainer.max_steps={steps + WARM_UP_STEPS}",
            f"trainer.threads={threads}",
            "trainer.accelerator=cpu",
            "trainer.final_checkpoint=none",
            "tracking=none",
        ]
    ).config


def compare(model: str, context_length: int, arms: dict[str, Callable[[Path], Seconds]], rounds: int, folder: Path) -> None:
    """Run the arms by turns, and print a row for each."""
    measured: dict[str, list[Seconds]] = {name: [] for name in arms}
    order = list(arms)
    for number in range(rounds + 1):
        # Who comes after whom changes: what an arm leaves behind, in the heap and in caches, costs the next.
        order = order[1:] + order[:1]
        for name in order:
            seconds = arms[name](folder / f"{model}-{context_length}-{name}-{number}")
            # The first round warms up allocators and caches of all.
            measured[name] += [seconds] if number else []
    batch_tokens, steps = SIZES[model]
    for name, times in measured.items():
        walls, cpus = ([one[kind] / own[kind] for one, own in zip(times, measured["harness"], strict=True)] for kind in (0, 1))
        speed = steps * batch_tokens / statistics.median(wall for wall, _ in times)
        print(
            f"| {model} | {context_length:,} | {batch_tokens // context_length} | {name} | {speed:,.0f} | {statistics.median(walls):.3f} "
            f"| {min(walls):.3f}, {max(walls):.3f} | {statistics.median(cpus):.3f} | {os.getloadavg()[0]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
