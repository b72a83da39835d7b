"""Text, a tokenizer and a model that are made in milliseconds, and a configuration that trains on them in about a second."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

DOMAIN_WORDS = ["def", "return", "value", "index", "list", "for", "in", "range", "append", "self", "key", "None"]
GENERAL_WORDS = ["the", "river", "runs", "past", "old", "mill", "and", "children", "play", "under", "green", "trees"]
CONTEXT = 32


@dataclass(frozen=True)
class TinyText:
    """Files that a run needs."""

    domain: Path
    """A jsonl file of 200 short documents, to train onto."""
    general: Path
    """A jsonl file of 200 short documents of another kind, to replay."""
    tokenizer: Path
    """A directory with a byte-level BPE tokenizer of at most 300 tokens, trained on both."""

    @property
    def data(self) -> list[str]:
        """Overrides: both files as sources, replayed and evaluated."""
        return [
            f"data.sources.domain.path={self.domain}",
            f"data.sources.general.path={self.general}",
            "data.sources.general.replay=true",
            "data.replay_share=0.25",
            "data.validation.domain.source=domain",
            "data.validation.domain.share=0.1",
            "data.validation.general.source=general",
            "data.validation.general.share=0.1",
            f"data.context_length={CONTEXT}",
        ]

    @property
    def overrides(self) -> list[str]:
        """A complete configuration: a Llama of 40 k parameters from scratch, four steps, on the CPU, untracked."""
        return [
            *self.data,
            *RUN,
            f"tokenizer.path={self.tokenizer}",
            "model.hidden_size=32",
            "model.intermediate_size=64",
            "model.layers=2",
            "model.heads=2",
            f"model.max_context={CONTEXT}",
        ]

    def pretrained(self, model: Path) -> list[str]:
        """The same, but going on from a saved model."""
        return [*self.data, *RUN, "model=pretrained", f"model.path={model}"]


RUN = [
    "trainer=cpu",
    "trainer.max_steps=4",
    f"trainer.batch_tokens={4 * CONTEXT}",
    "trainer.threads=1",
    "trainer.log_every_steps=1",
    "tracking=none",
]


def documents(words: list[str], count: int, *, seed: int) -> list[str]:
    """Walks over the words in which each is followed by one of two others: there is something to learn, and no two are the same."""
    chance = random.Random(seed)
    texts = []
    for number in range(count):
        at = chance.randrange(len(words))
        walk = []
        for _ in range(chance.randrange(4, 20)):
            walk.append(words[at])
            at = (2 * at + chance.randrange(1, 3)) % len(words)
        texts.append(f"{number} " + " ".join(walk))
    return texts


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def tiny_text(directory: Path, *, count: int = 200) -> TinyText:
    """Write both files and the tokenizer."""
    from harness.data.byte_bpe import train_byte_bpe

    domain, general = documents(DOMAIN_WORDS, count, seed=1), documents(GENERAL_WORDS, count, seed=2)
    train_byte_bpe([*domain, *general], 300, directory / "tokenizer")
    return TinyText(
        write_jsonl(directory / "domain.jsonl", domain), write_jsonl(directory / "general.jsonl", general), directory / "tokenizer"
    )


def tiny_model(directory: Path, tokenizer: Path, *, context: int = CONTEXT, tied: bool = True) -> Path:
    """Save a small Llama with random weights, and its tokenizer, as transformers does.

    tied: whether its output layer shares the weights of its embedding.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    shape = LlamaConfig(
        vocab_size=len(loaded),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(shape).save_pretrained(directory)
    loaded.save_pretrained(directory)
    return directory
