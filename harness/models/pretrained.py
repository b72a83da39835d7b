"""Pretrained models and tokenizers: loaded from a local directory or from the Hugging Face hub, and identified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks.model import WEIGHT_FILES
from harness.config.errors import InputError, wrong_value
from harness.config.remote_code import is_trusted
from harness.models.attention import transformers_name
from harness.models.hub import use_cache_without_network

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LARGEST_ID = 100_000_000
"""Of a token; embeddings have a row for each."""


def load_pretrained(path: str, *, key: str, attention: str, attention_dropout: float | None = None) -> PreTrainedModel:
    """The model at `path`, a local directory or hub name given in the configuration's `key`, in float32.

    Raises InputError for what cannot be loaded, and for weight files that lack tensors.
    """
    import torch
    from transformers import AutoModelForCausalLM

    use_cache_without_network(path, key=key)
    dropout = {} if attention_dropout is None else {"attention_dropout": attention_dropout}
    with loading(key, path, "causal language model", attention=attention):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            attn_implementation=transformers_name(attention),
            output_loading_info=True,
            trust_remote_code=is_trusted(path),
            weights_only=True,  # of *.bin files, which are pickles
            **dropout,
        )
    return whole_model(loaded, key, path)


def whole_model(loaded: Any, key: str, path: str) -> PreTrainedModel:
    """The model of what transformers loaded with its loading info. Raises InputError where weights are missing or broken."""
    import torch

    model: PreTrainedModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        # transformers only warns and continues with random weights.
        problem = f"its weight files lack {len(missing)} of the model's tensors ({', '.join(missing[:3])}{', …' if missing[3:] else ''})"
        raise wrong_value(key, path, problem)
    broken = next((name for name, weight in model.named_parameters() if not torch.isfinite(weight.sum()) and _is_broken(weight)), None)
    if broken is not None:
        raise wrong_value(key, path, f"its weights hold NaN or infinite values (in {broken}); valid: whole weight files")
    _say_whether_tied(model)
    return model


def _say_whether_tied(model: Any) -> None:
    """transformers keeps an output layer that differs from the embedding it is said to be, but not what it found: an engine that believes
    the exported configuration would serve other weights (transformers#45127)."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not embedding.weight:
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def _is_broken(weight: torch.Tensor) -> bool:
    """Whether it is no sum alone that overflowed."""
    return not bool(weight.isfinite().all())


def stored_config(path: str, *, key: str = "model.path") -> Any:
    """The configuration of the model at a path or hub name given in the configuration's `key`, as it is stored there."""
    from transformers import AutoConfig

    use_cache_without_network(path, key=key)
    return AutoConfig.from_pretrained(path, trust_remote_code=is_trusted(path))


def stored_rows(path: str, *, key: str) -> int:
    """For how many tokens the model at a path or hub name, given in the configuration's `key`, has rows. Raises InputError."""
    with loading(key, path, "configuration"):
        return int(stored_config(path, key=key).get_text_config().vocab_size)


def stored_dtype(path: str | None) -> torch.dtype:
    """The type in which the model at a path or hub name is stored, as far as it says so; float32 of a model from scratch (None)."""
    import torch

    found = None if path is None else getattr(stored_config(path), "dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def tokenizer_at(path: str, *, key: str) -> Any:
    """The fast tokenizer at a path or hub name given in the configuration's `key`. Raises InputError when there is none to load."""
    from transformers import AutoTokenizer

    use_cache_without_network(path, key=key)
    with loading(key, path, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True, trust_remote_code=is_trusted(path))
        vocabulary = tokenizer.get_vocab()
    if not tokenizer.is_fast:
        raise wrong_value(key, path, "not a fast tokenizer (no tokenizer.json)")
    if not vocabulary or max(vocabulary.values()) > LARGEST_ID:
        what = f"has the token id {max(vocabulary.values())}" if vocabulary else "has no tokens"
        raise wrong_value(key, path, f"its vocabulary {what}; valid: ids from 0 to {LARGEST_ID}")
    return tokenizer


@contextmanager
def loading(key: str, path: str, what: str, *, attention: str = "auto") -> Iterator[None]:
    """Turn what transformers raises for the files at `path`, given in `key`, into an InputError."""
    try:
        yield
    except MemoryError:
        raise
    except ImportError as error:
        raise not_installed(attention, error) from error
    except Exception as error:
        # What a damaged or hostile file raises depends on its kind and on where it is damaged: it may be anything.
        raise not_loaded(key, path, what, error) from error
    except BaseException as error:
        # A panic of the libraries that are written in Rust is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise not_loaded(key, path, what, error) from error


def pretrained_fingerprint(path: str, *, key: str) -> str:
    """A hash of the weights at `path`, given in the configuration's `key`: of a hub model's commit, or of what a directory holds, which is
    config.json with the size, head and tail of every weight file.

    Whole weight files are not read: hashing 100 GB at each start would cost more than it tells. Raises InputError for a hub model that
    neither the hub nor its cache has.
    """
    folder = Path(path)
    if not folder.is_dir():
        return hashlib.sha256(_hub_commit(path, key=key).encode()).hexdigest()
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(file for pattern in WEIGHT_FILES for file in folder.glob(pattern)):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 20))
            stream.seek(max(0, size - (1 << 20)))
            digest.update(stream.read())
    return digest.hexdigest()


def _hub_commit(name: str, *, key: str) -> str:
    """The commit that transformers loads: the newest one, or, without a network, the one in the cache."""
    from transformers.utils.hub import cached_file

    use_cache_without_network(name, key=key)
    try:
        found = cached_file(name, "config.json")
    except OSError as error:
        raise not_loaded(key, name, "causal language model", error) from error
    assert found is not None, "raises where there is none"
    # <cache>/models--<owner>--<name>/snapshots/<commit>/config.json
    return Path(found).parent.name


def not_loaded(key: str, path: str, what: str, error: BaseException) -> InputError:
    """The error for a directory or hub name from which transformers loads nothing."""
    place = (
        f"no {what} could be loaded from it" if Path(path).exists() else f"no such directory, and no {what} could be loaded from the hub"
    )
    return wrong_value(key, path, f"{place}: {first_line(error)}")


def not_installed(attention: str, error: ImportError) -> InputError:
    """The error for a library that is missing: that of model.attention, or one that a kind of weights or a family needs."""
    if attention.startswith("flash"):
        return wrong_value("model.attention", attention, f"{first_line(error)} Valid: auto, varlen, sdpa, eager, or install flash-attn")
    return InputError(f"model: a library is missing: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """The first line of an error of transformers."""
    return next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), type(error).__name__)
