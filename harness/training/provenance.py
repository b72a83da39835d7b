"""Versions, commit and hardware of a result."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("harness", "torch", "lightning", "transformers", "tokenizers", "peft", "numpy")


@cache
def versions() -> dict[str, str]:
    """Of what a run's bits depend on, by package. Read once: a warm server has them before it forks."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_commit() -> str | None:
    """The commit of the working directory, with "-dirty" after it when tracked files differ; None outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            cwd=Path.cwd(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None


def hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads(), "gpus": gpus}


def machine() -> dict[str, Any]:
    """What the last bits of a result depend on besides the configuration: libraries, kinds of processor, threads."""
    found = hardware()
    return {
        **{package: versions()[package] for package in ("torch", "transformers")},
        **{part: found[part] for part in ("cpu", "threads", "gpus")},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
