"""Memory and time of `harness merge` against mergekit: three models in several shards, and models of any size without content.

    python -m benchmarks.merging [--megabytes 1000] [--sparse-megabytes 10000] [--methods linear ties] [--rounds 1] [--no-mergekit]
        [--no-sparse-merge]

The models are Llamas in bfloat16 with random weights. Every measurement is a process of its own; the clocks (of the wall, and of the
processors) and the memory (anonymous memory, sampled; mapped pages can be given back) start after its imports. Sparse models are holes:
their files take no room on the disk. Of these the plan alone is measured, which reads headers, and then the merge, whose rows are thrown
away when they are made. Target: a fifth of the memory of mergekit's default, and no slower.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.config.merge_methods import METHODS, MergeMethod
from harness.merging.safetensors_files import header_of
from harness.merging.source import from_float32

HIDDEN, INTERMEDIATE, VOCABULARY, SHARDS = 1024, 4096, 32768, 5
MODELS = ("base", "a", "b")
SAMPLE_SECONDS = 0.01
SHOWN = {"harness": "harness", "mergekit": "mergekit", "headers": "harness, plan", "rows": "harness, rows"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--sparse-megabytes", type=int, default=10_000)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["linear", "ties"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--no-mergekit", action="store_true")
    parser.add_argument("--no-sparse-merge", action="store_true")
    parser.add_argument("--measure", nargs=2, metavar=("WHO", "RECIPE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        who, recipe = arguments.measure
        print(json.dumps({"harness": harness, "headers": headers, "rows": rows, "mergekit": mergekit}[who](Path(recipe))))
        return
    others = [] if arguments.no_mergekit or find_spec("mergekit") is None else ["mergekit"]
    without_disk = ["headers"] if arguments.no_sparse_merge else ["headers", "rows"]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| models | method | who | peak MB | seconds | CPU s |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        for kind, megabytes, who in (
            ("full", arguments.megabytes, ["harness", *others]),
            ("sparse", arguments.sparse_megabytes, without_disk),
        ):
            size = write_models(directory / kind, megabytes, sparse=kind == "sparse")
            for method in arguments.methods:
                recipe = write_recipe(directory / kind, method)
                # By turns: what else the machine does is then as likely to slow the one as the other.
                for turn, name in product(range(arguments.rounds), who):
                    found = measured(name, recipe)
                    models = f"3 of {size / 1e6:,.0f} MB, {kind}, round {turn + 1}"
                    figures = f"{found['peak_megabytes']:,.0f} | {found['seconds']:.1f} | {found['cpu_seconds']:.1f}"
                    print(f"| {models} | {method} | {SHOWN[name]} | {figures} |", flush=True)


def shapes(megabytes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of a Llama of about this size in bfloat16."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    layer = {
        **{f"self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"},
        **{f"mlp.{name}_proj.weight": (INTERMEDIATE, HIDDEN) for name in ("gate", "up")},
        "mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
        "input_layernorm.weight": (HIDDEN,),
        "post_attention_layernorm.weight": (HIDDEN,),
    }
    of_a_layer = 2 * sum(math.prod(shape) for shape in layer.values())
    for number in range(max(1, round((megabytes * 1e6 - 4 * VOCABULARY * HIDDEN) / of_a_layer))):
        yield from ((f"model.layers.{number}.{name}", shape) for name, shape in layer.items())
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def write_models(directory: Path, megabytes: int, *, sparse: bool) -> int:
    """Three models in several files each; bytes of one of them."""
    tensors = list(shapes(megabytes))
    layers = sum(name.endswith("q_proj.weight") for name, _ in tensors)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
    }
    per_file = math.ceil(len(tensors) / SHARDS)
    for seed, model in enumerate(MODELS):
        folder = directory / model
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        random = np.random.default_rng(seed)
        weight_map: dict[str, str] = {}
        for shard in range(SHARDS):
            name, part = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors", tensors[shard * per_file : (shard + 1) * per_file]
            weight_map |= {tensor: name for tensor, _ in part}
            with (folder / name).open("wb") as stream:
                stream.write(header_of((tensor, "BF16", shape, 2 * math.prod(shape)) for tensor, shape in part))
                if sparse:
                    stream.truncate(stream.tell() + sum(2 * math.prod(shape) for _, shape in part))
                    continue
                for _, shape in part:
                    stream.write(from_float32(np.float32(0.04) * random.random(shape, np.float32) - np.float32(0.02), "BF16").tobytes())
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return sum(2 * math.prod(shape) for _, shape in tensors)


def write_recipe(directory: Path, method: MergeMethod) -> Path:
    base = {"base_model": str(directory / "base")} if METHODS[method].base == "required" else {}
    parameters = {"weight": 0.5, **({"density": 0.2} if "density" in METHODS[method].of_ingredients else {})}
    models = [{"model": str(directory / name), "parameters": parameters} for name in MODELS if not base or name != "base"]
    path = directory / f"{method}.yml"
    path.write_text(yaml.safe_dump({"merge_method": method, **base, "models": models, "dtype": "bfloat16"}))
    return path


def measured(who: str, recipe: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.merging", "--measure", who, str(recipe)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{who} failed on {recipe.name}:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def harness(recipe: Path) -> dict[str, float]:
    from harness.merging.write import write_merge
    from harness.work.merge import merge_plan_of

    with tempfile.TemporaryDirectory(dir=recipe.parent) as temporary:
        return watched(lambda: write_merge(merge_plan_of([str(recipe)]), Path(temporary) / "out"))


def headers(recipe: Path) -> dict[str, float]:
    """What --dry-run does."""
    from harness.work.merge import merge_plan_of, plan_summary

    return watched(lambda: plan_summary(merge_plan_of([str(recipe)])))


def rows(recipe: Path) -> dict[str, float]:
    """All but the disk: the rows are merged and rounded as they would be written."""
    from harness.merging.merge import merged_tensors
    from harness.work.merge import merge_plan_of

    def run() -> None:
        for target, blocks in merged_tensors(merge_plan_of([str(recipe)])):
            for block in blocks:
                from_float32(block, target.dtype).tobytes()

    return watched(run)


def mergekit(recipe: Path) -> dict[str, float]:
    """By its defaults."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    config = MergeConfiguration.model_validate(yaml.safe_load(recipe.read_text()))
    options = MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False)
    with tempfile.TemporaryDirectory(dir=recipe.parent) as temporary:
        return watched(lambda: run_merge(config, f"{temporary}/out", options))


def watched(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds of some work, by the clock and of the processors, and the peak of anonymous memory above what there was before it."""
    before, peak, ended = anonymous_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(SAMPLE_SECONDS):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, busy = time.perf_counter(), time.process_time()
    work()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    ended.set()
    watcher.join()
    return {"peak_megabytes": (max(peak, before) - before) / 1e6, "seconds": seconds, "cpu_seconds": busy}


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
