"""Kills while a data set is made: rows that are lost, rows that are there twice, and whether the data set has the same bytes.

    python -m benchmarks.synthesis_kills [--rows 2400] [--kills 20] [--budget TOKENS]

A server on loopback writes the answers; two workers have three requests under way each. At random moments, counted in answers that are
there, one worker is killed by kill -9, or all and their command, which is given again when none is left. The other data set is made by one
worker that nobody disturbs. --budget: with room for a part of the rows; what kills lose must stay below half of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.synthesis.directory import SynthDirectory
from harness.synthesis.status import answers
from tests.synthesis.server import Body, Reply, completion, prompt_of, serving

ANSWER_SECONDS = 0.02
WORKERS = 2
LEFT = 60
"""Rows behind the last moment, so that all kills come before the end."""


def reply(body: Body) -> Reply:
    """A function of the prompt and the seed."""
    time.sleep(ANSWER_SECONDS)
    return completion(f"{prompt_of(body)} {body['seed'] % 97}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2400)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--budget", type=int, help="tokens; default: no limit")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of who is killed")
    arguments = parser.parse_args()
    began, chance = time.perf_counter(), random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary, serving(reply) as server:
        folder = Path(temporary)
        prompts = folder / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": f"Say {number}."}) + "\n" for number in range(arguments.rows)))
        words = ["answers", f"seeds.prompts.path={prompts}", "teachers.teacher.model=m", f"teachers.teacher.endpoint={server.address}"]
        words += ["teachers.teacher.requests=3", "steps.answer.max_new_tokens=16", "steps.answer.sampling={}", "shard_rows=60"]
        if arguments.budget:
            words += [f"budget.tokens={arguments.budget}", "budget.held_back=0.5"]
        finish(start(words, folder / "whole", workers=1))
        server.bodies.clear()
        whole, killed = (SynthDirectory(folder / name) for name in ("whole", "killed"))
        disturbed(words, killed.path, whole, arguments.kills, chance)
        ids = {
            directory: [row["id"] for file in directory.path.glob("shards/*.jsonl") for row in rows_of(file)]
            for directory in (whole, killed)
        }
        print(f"{len(ids[whole])} rows, {WORKERS} workers, {arguments.kills} times kill -9, {time.perf_counter() - began:.0f} s")
        print(f"rows lost: {len(set(ids[whole]) - set(ids[killed]))}")
        print(f"rows twice: {len(ids[killed]) - len(set(ids[killed]))}")
        print(f"answers that were asked for again: {len(server.bodies) - len({body['seed'] for body in server.bodies})}")
        print(f"the data set is the same, to the byte: {whole.data.read_bytes() == killed.data.read_bytes()}")
        ledger = killed.ledger()
        print(f"tokens: {ledger.used}, of which lost: {sum(one.lost for one in ledger.shards.values())}; limit {ledger.limit}")


def rows_of(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def start(words: list[str], directory: Path, *, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", "synth", *words, "--dir", str(directory), "--workers", str(workers)]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"harness synth: {process.returncode}: {said.decode()[-2000:]}")


def disturbed(words: list[str], path: Path, whole: SynthDirectory, kills: int, chance: random.Random) -> None:
    """Make a data set as the whole one, with kills at random moments, each while rows are written."""
    shards: int = whole.begun()["shards"]
    rows = answers(whole, shards)
    directory, process, there = SynthDirectory(path), start(words, path, workers=WORKERS), 0
    for moment in sorted(chance.sample(range(1, rows - LEFT), kills)):
        wanted = max(moment, there + 1)
        while (there := answers(directory, shards)) < wanted:
            if process.poll() is not None:  # all were killed, or the last worker was
                process = start(words, path, workers=WORKERS)
            time.sleep(0.002)
        alive = workers_of(process)
        if alive and chance.random() < 0.5:
            os.kill(chance.choice(alive), signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.poll() is None:
        process.communicate()
    finish(start(words, path, workers=WORKERS))


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Those that live."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in pids if Path(f"/proc/{pid}/cmdline").read_bytes()]


if __name__ == "__main__":
    main()
