"""A recipe run again from its bundle alone: are the bits the same?

Trains a 1 M parameter Llama on Python source of the standard library, with dropout and accumulation, exports the run, moves the bundle into
another directory with its text and tokenizer elsewhere, and reproduces it there: every logged value and every tensor of the final
checkpoint is compared.

    python -m benchmarks.reproduce [--steps 60] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import workload


def harness(*arguments: str | Path, home: Path) -> str:
    environment = {**os.environ, "HARNESS_RUNS": str(home / "runs"), "HARNESS_CACHE": str(home / "cache"), "WANDB_MODE": "offline"}
    return subprocess.run(workload.harness(*arguments), cwd=home, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def same_tensors(one: Path, other: Path) -> tuple[int, int]:
    """Tensors that are equal to the last bit, and all."""
    import torch

    def tensors(value: object, name: str = "") -> dict[str, torch.Tensor]:
        if isinstance(value, torch.Tensor):
            return {name: value}
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        return {key: tensor for part, below in parts for key, tensor in tensors(below, f"{name}.{part}").items()}

    mine, its = (tensors(torch.load(path, weights_only=True)) for path in (one, other))
    return sum(name in its and torch.equal(tensor, its[name]) for name, tensor in mine.items()), len(mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        owner, colleague = Path(temporary) / "owner", Path(temporary) / "colleague"
        for home in (owner, colleague):
            home.mkdir()
        settings = [*workload.python_text(owner, documents=400), "model=llama_1m", "model.attention_dropout=0.1", "schedule=wsd"]
        settings += ["trainer.batch_tokens=2048", "trainer.micro_batch_size=8", "trainer.log_every_steps=1"]
        settings += ["data.validation.python={source: python, share: 0.05, max_tokens: 16384}"]
        settings += [f"trainer.max_steps={given.steps}", f"trainer.threads={given.threads}"]
        shutil.copytree(owner / "text", colleague / "elsewhere/text")
        shutil.copytree(owner / "tokenizer", colleague / "elsewhere/tokenizer")
        began = time.perf_counter()
        run = harness("train", *settings, home=owner).strip()
        seconds = time.perf_counter() - began
        harness("best", run, "--export", "recipe", home=owner)
        shutil.move(owner / "conf/experiment/best/recipe", colleague / "recipe")
        original = owner / "kept"
        shutil.move(Path(run) / "checkpoints", original)
        began = time.perf_counter()
        elsewhere = ["data.sources.python.path=elsewhere/text/python.jsonl", "tokenizer.path=elsewhere/tokenizer"]
        document = json.loads(harness("reproduce", "recipe", *elsewhere, "--json", home=colleague))
        again = time.perf_counter() - began
        equal, tensors = same_tensors(next(original.glob("*.ckpt")), next((colleague / document["run"] / "checkpoints").glob("*.ckpt")))
    rows = document["rows"]
    print(f"{given.steps} steps, {given.threads} threads: {document['verdict']}")
    print(f"{rows['values']} logged values in {rows['steps']} rows: {rows['first_difference'] or 'all the same'}")
    print(f"{equal} of {tensors} tensors of the checkpoint (weights, optimizer, averages, random state) are the same to the last bit")
    print(f"train {seconds:.0f} s, reproduce {again:.0f} s, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
