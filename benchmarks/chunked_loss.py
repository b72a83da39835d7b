"""What a loss in chunks of tokens saves in memory, and what it costs in time: forward and backward of one row of a long context.

    python -m benchmarks.chunked_loss [--context 4096 8192] [--vocabulary 32000] [--hidden 128] [--chunk 256 1024]

Each arm is a process of its own: its peak memory, less what it held before the first step. glibc is told to give blocks of a
mebibyte and more back at once (MALLOC_MMAP_THRESHOLD_): else the peak says more about its heap than about what is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks.workload import peak_mebibytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--chunk", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arm", help="one arm in this process, as JSON (used by the script itself)")
    given = parser.parse_args()
    if given.arm:
        print(json.dumps(measure(**json.loads(given.arm))))
        return
    print("| context | loss | peak, MiB | peak / plain | seconds | seconds / plain | loss |")
    print("|---|---|---|---|---|---|---|")
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    for context in given.context:
        plain = None
        for chunk in (None, *given.chunk):
            arm = {"context": context, "vocabulary": given.vocabulary, "hidden": given.hidden, "chunk": chunk, "rounds": given.rounds}
            command = [sys.executable, "-m", "benchmarks.chunked_loss", "--arm", json.dumps(arm)]
            done = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout)
            plain = plain or done
            name = "plain" if chunk is None else f"chunks of {chunk:,}"
            print(
                f"| {context:,} | {name} | {done['mebibytes']:,.0f} | {done['mebibytes'] / plain['mebibytes']:.2f} "
                f"| {done['seconds']:.2f} | {done['seconds'] / plain['seconds']:.2f} | {done['loss']:.5f} |",
                flush=True,
            )


def measure(*, context: int, vocabulary: int, hidden: int, chunk: int | None, rounds: int) -> dict[str, float]:
    """Peak memory and median seconds of forward and backward of one row, with a Llama of two layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from harness.training.losses import chunked_sum, summed_cross_entropy
    from harness.training.predictions import is_trained, predict

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=context,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(shape)
    ids = torch.randint(vocabulary, (1, context + 1))
    batch = {"input_ids": ids[:, :-1], "labels": ids[:, 1:], "position_ids": torch.arange(context)[None]}

    def step() -> float:
        """As the module of objective=cpt computes its loss."""
        if chunk is None:
            logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
            total = summed_cross_entropy(logits, batch["labels"])
        else:
            trained = is_trained(batch)
            predicted = predict(model, batch, trained, in_chunks=True)
            total = chunked_sum(
                lambda rows, labels: summed_cross_entropy(predicted.to_logits(rows), labels),
                predicted.rows,
                batch["labels"][trained],
                chunk=chunk,
            )
        (total / context).backward()
        return float(total.detach()) / context

    before = peak_mebibytes()
    seconds = []
    for _ in range(rounds):
        model.zero_grad(set_to_none=True)
        start = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - start)
    return {"mebibytes": peak_mebibytes() - before, "seconds": statistics.median(seconds), "loss": loss}


if __name__ == "__main__":
    main()
