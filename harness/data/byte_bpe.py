"""A small byte-level BPE tokenizer trained on given text, for models from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from harness.runs.files import write_json, write_text

END_OF_TEXT = "<|endoftext|>"
SMALLEST_VOCABULARY = 257
"""All bytes, and the end of text."""


def train_byte_bpe(texts: Iterable[str], vocabulary: int, directory: Path) -> None:
    """Train on the texts and write a directory that transformers.AutoTokenizer loads; the same texts give the same files.

    `vocabulary` counts all ids; there are fewer when the texts run out of pairs to merge. Raises ValueError below 257.
    """
    if vocabulary < SMALLEST_VOCABULARY:
        raise ValueError(f"vocabulary={vocabulary}: at least {SMALLEST_VOCABULARY}, for all bytes and {END_OF_TEXT}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    write_text(directory / "tokenizer.json", tokenizer.to_str(pretty=True))
    # No model_max_length: the model's context is no property of the tokenizer.
    write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT, "clean_up_tokenization_spaces": False},
    )
