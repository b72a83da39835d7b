"""Pages whose code is run as a reader would: from top to bottom, in a directory that holds what the page takes for granted.

- bash: run by bash, which stops at the first command that fails.
- python: the blocks of a page are one program, which runs where the last of them stands.
- yaml, json, jinja with a title: written to the file of that name. Without one, yaml and json must only be well-formed.
- text: what the commands of the bash block above it say: every word of it must be among what they said here; numbers may differ, and what
  stands behind an … . After `$ ` stands a command of its own. A block with a title (of another model, say), or of a tree of files, is not
  looked at.

A page's front matter may say what it needs besides: `needs: [slurm]` or `needs: [wandb]`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support import warm

ROOT = Path(__file__).parent.parent.parent
RUN_ELSEWHERE = ("make quickstart", "make test", "pip install -c constraints.txt -e .")
"""CI runs these itself, on a fresh clone; and whoever reads this in a test run has installed the package."""
NOT_RUN = ("text", "")
BASE_MODEL = """
harness train experiment=quickstart_base tokenizer.path=text/tokenizer data.sources.english.path=general.jsonl trainer.max_steps=100 \\
    model.hidden_size=32 model.intermediate_size=64 model.layers=1 model.heads=2 model.max_context=512 model.tie_embeddings=false \\
    --dir text/base-run
harness export text/base-run my-model
"""
"""As the quickstart makes its own, smaller: a model that knows nothing has nothing to forget."""
WORD = re.compile(r"[A-Za-z_][A-Za-z_/.-]{2,}")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str
    line: int


def front_matter(page: Path) -> dict[str, Any]:
    """What a page says of itself between two lines of dashes at its beginning."""
    found = re.match(r"---\n(.*?)\n---\n", page.read_text(), flags=re.DOTALL)
    return yaml.safe_load(found.group(1)) if found else {}


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for fence in re.finditer(r"^```(\w*)([^\n]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        title = re.search(r'title="([^"]+)"', fence.group(2))
        found.append(Block(fence.group(1), title.group(1) if title else None, fence.group(3), text[: fence.start()].count("\n") + 1))
    return found


def make_home(home: Path) -> None:
    """A directory with what the pages take for granted: a model that knows English, texts, conversations, and pairs of answers."""
    from harness.data.byte_bpe import train_byte_bpe
    from harness.data.sources import read_documents
    from harness.data.stdlib_corpus import write_corpus

    write_corpus(home / "text")
    for name, kind, first in (("docs", "python", 0), ("more", "python", 4), ("general", "english", 0)):
        # Every eighth document is enough, and quick.
        texts = list(read_documents(str(home / "text" / f"{kind}.jsonl"), "text", key=name))[first::8]
        (home / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    chat = [
        {"messages": [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": f"It is {n + 1}."}]} for n in range(200)
    ]
    (home / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chat))
    pairs = [{"prompt": f"{n} + 1?", "chosen": f"It is {n + 1}.", "rejected": "No idea."} for n in range(200)]
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    train_byte_bpe(read_documents(str(home / "general.jsonl"), "text", key="general"), 512, home / "text" / "tokenizer")
    _run(["bash", "-e", "-c", BASE_MODEL], "", "the model of the pages", home, environment())
    (home / "my-teacher").symlink_to(home / "my-model")


def environment(**more: str) -> dict[str, str]:
    """Of the commands of a page: runs/ is in the directory, tokenized text is shared by all pages of a test run."""
    surroundings = {name: value for name, value in os.environ.items() if name != "HARNESS_RUNS"}
    return {
        **surroundings,
        "PATH": f"{warm.shared().programs}:{os.environ['PATH']}",
        "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "140",
        **more,
    }


def run_page(page: Path, home: Path, env: dict[str, str]) -> list[Block]:
    """Run a page's blocks in `home`; returns those that were run or written."""
    found = blocks(page)
    programs = [block for block in found if block.language == "python"]
    done = []
    said: str | None = None
    """By the bash block before, unless it is run elsewhere."""
    for block in found:
        where = f"{page.relative_to(ROOT)}:{block.line}"
        match block.language:
            case "bash":
                script = _without_elsewhere(block.text)
                output = _run(["bash", "-e", "-o", "pipefail", "-c", script], "", where, home, env)
                said = output if script.strip() else None
            case "python":
                if block is not programs[-1]:
                    continue
                _run(["python", "-"], "\n".join(program.text for program in programs), where, home, env)
            case "yaml" | "json" | "jinja":
                _well_formed(block, where)
                if block.title is None:
                    continue
                (home / block.title).parent.mkdir(parents=True, exist_ok=True)
                (home / block.title).write_text(block.text)
            case "text":
                if block.title is None and not block.text.split(maxsplit=1)[0].endswith("/"):
                    _check_sample(block.text, said, where, home, env)
                continue
            case language:
                assert language in NOT_RUN, f"{where}: nobody runs a block of {language or 'no language'}"
                continue
        done.append(block)
    return done


def _without_elsewhere(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if line.split("  #")[0].strip() not in RUN_ELSEWHERE)


def _run(command: list[str], program: str, where: str, home: Path, env: dict[str, str]) -> str:
    """What it said."""
    done = subprocess.run(command, input=program, cwd=home, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{where}\n{command[-1]}{program}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    return done.stdout + done.stderr


def _check_sample(sample: str, said: str | None, where: str, home: Path, env: dict[str, str]) -> None:
    for part in re.split(r"^(?=\$ )", sample, flags=re.MULTILINE):
        first, _, rest = part.partition("\n")
        if first.startswith("$ "):
            done = subprocess.run(["bash", "-c", first[2:]], cwd=home, env=env, capture_output=True, text=True, timeout=600, check=False)
            said, part = done.stdout + done.stderr, rest
        if said is not None:
            lacking = sorted(_words(part) - _words(said))
            assert not lacking, f"{where}: nothing says {', '.join(lacking)} any more\n{said}"


def _words(text: str) -> set[str]:
    return {word.strip(".") for line in text.splitlines() for word in WORD.findall(line.partition("…")[0])}


def _well_formed(block: Block, where: str) -> None:
    try:
        match block.language:
            case "yaml":
                yaml.safe_load(block.text)
            case "json":
                for line in [block.text] if block.text.startswith("{\n") else block.text.splitlines():
                    json.loads(line)
    except ValueError as error:
        raise AssertionError(f"{where}: {error}") from error
    except yaml.YAMLError as error:
        raise AssertionError(f"{where}: {error}") from error
