"""The quickstart's task at six learning rates without replay, and at one with: what any correct setup should see.

harness quickstart            # once: text, tokenizer and base model
python benchmarks/quickstart_rates.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = [*((rate, 0.0) for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)), (3e-3, 0.25)]
FIXED = ["schedule=linear", "data.packing=best_fit", "tracking=none", "trainer.threads=1", "trainer.final_checkpoint=none"]


def main() -> None:
    print("|     lr | replay | val/python/loss | val/english/forgetting | seconds |\n|---|---|---|---|---|")
    for rate, replay in RUNS:
        with tempfile.TemporaryDirectory() as directory:
            run = Path(directory) / "run"
            overrides = ["experiment=quickstart", f"optim.lr={rate}", f"data.replay_share={replay}", *FIXED]
            command = [sys.executable, "-m", "harness", "train", *overrides, "--dir", str(run)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            result = json.loads((run / "result.json").read_text())
            metrics = result["metrics"]
            loss, forgetting = metrics["val/python/loss"], metrics["val/english/forgetting"]
            print(f"| {rate:6.0e} | {replay:.2f} | {loss:.3f} | {forgetting:.3f} | {result['seconds']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
