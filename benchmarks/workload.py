"""What the scripts share: something to train on, commands that are timed, and what is said where something is missing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

SPACE: dict[str, Any] = {
    "optim.lr": {"low": 1e-4, "high": 3e-2, "log": True},
    "schedule": {"choices": ["cosine", "linear", "wsd"]},
    "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}},
    "data.packing": {"choices": ["best_fit", "concat", "padded"]},
    "data.replay_share": {"low": 0.0, "high": 0.5, "step": 0.05},
}
"""That of sweeps/quickstart.yaml."""

# What a script needs.


def require(condition: bool, what: str) -> None:
    """Leave with exit code 2 and one line where the condition does not hold."""
    if not condition:
        print(f"{Path(sys.argv[0]).stem}: needs {what}", file=sys.stderr)
        raise SystemExit(2)


def require_modules(*names: str) -> None:
    for name in names:
        require(find_spec(name) is not None, f"{name}: pip install 'harness[benchmarks]'")


def require_paths(*paths: Path, hint: str) -> None:
    for path in paths:
        require(path.exists(), f"{path}: {hint}")


# What is trained.


def python_text(folder: Path, *, documents: int | None = None, vocabulary: int = 2048) -> list[str]:
    """Write the source of Python's standard library and a tokenizer of it; returns the overrides of a run over them on one CPU thread.

    Args: documents: of the source python, the first so many; default: all, 8 MB.
    """
    from harness.data.byte_bpe import train_byte_bpe
    from harness.data.stdlib_corpus import write_corpus

    write_corpus(folder / "text")
    source = folder / "text" / "python.jsonl"
    with source.open() as stream:
        lines = list(islice(stream, documents))
    source.write_text("".join(lines))
    train_byte_bpe([json.loads(line)["text"] for line in lines], vocabulary, folder / "tokenizer")
    return [
        f"tokenizer.path={folder / 'tokenizer'}",
        f"data.sources.python.path={source}",
        "data.context_length=128",
        "trainer=cpu",
        "trainer.threads=1",
        "tracking=none",
    ]


def unread_text(folder: Path) -> list[str]:
    """Overrides that make a complete configuration, over files that exist and nobody reads."""
    text = folder / "text.jsonl"
    text.write_text('{"text": "some text"}\n')
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    overrides = ["tracking=none", f"tokenizer.path={folder}/tokenizer", "data.context_length=128", "data.sources.general.replay=true"]
    for name in ("general", "target"):
        overrides += [f"data.sources.{name}.path={text}", f"data.validation.{name}.source={name}", f"data.validation.{name}.share=0.1"]
    return overrides


def adaptation(model: Path, target: Path, general: Path, *, metric_tokens: int = 4096) -> list[str]:
    """Overrides of runs that take a model to `target` with replay of `general`, on one CPU thread."""
    require_paths(model, target, general, hint="see --model, --target, --general")
    return [
        "model=pretrained",
        f"model.path={model.resolve()}",
        f"data.sources.target.path={target.resolve()}",
        f"data.sources.general.path={general.resolve()}",
        "data.sources.general.replay=true",
        *(f"data.validation.{name}={{source: {name}, share: 0.05, max_tokens: {metric_tokens}}}" for name in ("target", "general")),
        "data.context_length=128",
        "trainer.accelerator=cpu",
        "trainer.threads=1",
        "trainer.final_checkpoint=none",
        "tracking=none",
    ]


# What is measured.


def harness(*words: str | Path) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "harness", *map(str, words)]


def timed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Seconds of a command, of the wall and of the CPU (its children's, too). Leaves with what it says where it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=said)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{said.read()[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies; the nearest that there is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def peak_mebibytes() -> float:
    """The most memory that this process had; getrusage would count the parent's, from before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
