"""The quickstart's task at six learning rates without replay, and at one with: what any correct setup should see.

harness quickstart --trials 1       # once: text, tokenizer and base model
python -m benchmarks.quickstart_rates [--rates 1e-4 …] [--tokens 123000]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.workload import harness, require_paths, timed

FIXED = ["schedule=linear", "data.packing=best_fit", "tracking=none", "trainer.threads=1", "trainer.final_checkpoint=none"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2])
    parser.add_argument("--replayed", type=float, default=3e-3, help="the rate that is run with a quarter of replay as well")
    parser.add_argument("--tokens", type=int, default=123_000, help="of a run")
    given = parser.parse_args()
    require_paths(Path("quickstart/base"), Path("quickstart/text"), hint="`harness quickstart` makes it, in this directory")
    print("|     lr | replay | val/python/loss | val/english/forgetting | seconds |\n|---|---|---|---|---|")
    for rate, replay in [*((rate, 0.0) for rate in given.rates), (given.replayed, 0.25)]:
        with tempfile.TemporaryDirectory() as directory:
            run = Path(directory) / "run"
            overrides = ["experiment=quickstart", f"optim.lr={rate}", f"data.replay_share={replay}", f"trainer.max_tokens={given.tokens}"]
            timed(harness("train", *overrides, *FIXED, "--dir", run))
            result = json.loads((run / "result.json").read_text())
            metrics = result["metrics"]
            loss, forgetting = metrics["val/python/loss"], metrics["val/english/forgetting"]
            print(f"| {rate:6.0e} | {replay:.2f} | {loss:.3f} | {forgetting:.3f} | {result['seconds']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
