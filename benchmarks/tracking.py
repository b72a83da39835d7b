"""What tracking costs a run offline: per logged row, and per attempt. Children are forked from a warm server, as a sweep's workers are.

python -m benchmarks.tracking
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.config.schema import TrackingConfig
from harness.tracking.identity import Identity
from harness.tracking.wandb_logger import WandbLogger

METRICS = {"train/loss": 2.5, "lr": 1e-3, "tokens": 1e6, "tokens_per_second": 1e5, "val/docs/loss": 2.4, "val/docs/bits_per_byte": None}


@dataclass
class Cost:
    """Of one attempt, for its caller."""

    construct_ms: float
    log_ms: list[float]
    finish_ms: float


def attempt(directory: Path, rows: int, step_seconds: float) -> Cost:
    os.environ["WANDB_MODE"] = "offline"
    started = time.perf_counter()
    logger = WandbLogger(
        TrackingConfig(),
        identity=Identity(id="benchmark", name="benchmark", job_type="train"),
        directory=directory,
        hyperparameters={"seed": 0},
    )
    construct_ms = (time.perf_counter() - started) * 1e3
    log_ms = []
    for step in range(rows):
        started = time.perf_counter()
        logger.log_metrics(METRICS, step=step)
        log_ms.append((time.perf_counter() - started) * 1e3)
        time.sleep(step_seconds)
    started = time.perf_counter()
    logger.finish("success")
    return Cost(construct_ms, log_ms, (time.perf_counter() - started) * 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--step-seconds", type=float, default=0.002, help="sleep between rows, in place of training")
    options = parser.parse_args()
    warm = multiprocessing.get_context("forkserver")
    warm.set_forkserver_preload(["harness.tracking.warm"])
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(options.attempts):
            with ProcessPoolExecutor(1, mp_context=warm) as pool:
                costs.append(pool.submit(attempt, Path(folder) / str(index), options.rows, options.step_seconds).result())
    log_ms = np.concatenate([cost.log_ms for cost in costs])
    print(f"log_metrics   p50 {np.percentile(log_ms, 50):.4f} ms   p99 {np.percentile(log_ms, 99):.4f} ms   max {log_ms.max():.2f} ms")
    for name in ("construct_ms", "finish_ms"):
        values = [getattr(cost, name) for cost in costs]
        print(f"{name.removesuffix('_ms'):13} median {np.median(values):.2f} ms   max {max(values):.2f} ms")


if __name__ == "__main__":
    main()
