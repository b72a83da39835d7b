"""Every command that the README shows runs, as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# CI runs these two themselves, on a fresh clone; and whoever reads this in a test run has installed the package.
RUN_ELSEWHERE = ("make quickstart", "make test", "pip install -c constraints.txt -e .")


def commands() -> list[str]:
    """The commands of all bash blocks, continued lines joined, comments left out."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append(shlex.join(words))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the README takes for granted: a model, two files of text and one of conversations."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from harness.data.byte_bpe import train_byte_bpe
    from harness.data.sources import read_documents
    from harness.data.stdlib_corpus import write_corpus

    home = tmp_path_factory.mktemp("readme")
    write_corpus(home / "text")
    for name, kind in (("docs", "python"), ("general", "english")):
        # Every eighth document is enough, and quick.
        texts = list(read_documents(str(home / "text" / f"{kind}.jsonl"), "text", key=name))[::8]
        (home / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    chat = [
        {"messages": [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": f"It is {n + 1}."}]} for n in range(200)
    ]
    (home / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chat))
    model = home / "my-model"
    train_byte_bpe(read_documents(str(home / "general.jsonl"), "text", key="general"), 512, model)
    shape = LlamaConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(model)),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(shape).save_pretrained(model)
    (home / "my-teacher").symlink_to(model)
    return home


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_of_the_readme_runs(home: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HARNESS_CACHE": str(home / "cache"),
        "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "1",
    }
    ran = 0
    for command in commands():
        if command in RUN_ELSEWHERE:
            continue
        done = subprocess.run(command, shell=True, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran == 11
    assert (home / "cpt.html").stat().st_size > 1_000_000
    assert (home / "conf/experiment/best/my_recipe.yaml").exists()


def test_the_commands_run_elsewhere_are_in_the_readme() -> None:
    assert set(RUN_ELSEWHERE) <= set(commands())


def test_the_readme_shows_the_shipped_sweep_as_it_is() -> None:
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)[0])
    shipped = yaml.safe_load((ROOT / "sweeps/cpt.yaml").read_text())
    assert shown == {key: value for key, value in shipped.items() if key != "launcher"}


def test_every_file_that_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
