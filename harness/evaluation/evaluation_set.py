"""A set that is ready to be measured, and what it may ask of a model."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import wrong_value
from harness.config.schema import SamplingConfig
from harness.data.ragged import Int64
from harness.data.split import Hashes
from harness.generation.rows import Generation, Limits, Prompt
from harness.runs.generations import WrittenText
from harness.runs.report_split import REPORT, ByDocument

T = TypeVar("T")
U = TypeVar("U")
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Chosen = Bools
"""bool[documents]"""
Advance = Callable[[int], None]
"""Called after each batch with how much of the set's size it held."""


class LanguageModel(Protocol):
    """A model under evaluation: no dropout, no gradients."""

    @property
    def batch_tokens(self) -> int:
        """Positions of one forward pass (trainer.evaluation_batch_tokens)."""

    def losses(self, input_ids: Int64, labels: Int64) -> Float64:
        """Nats of every label, 0 where it is -100: float64 [b, l].

        Args: int64 [b, l] both; labels are shifted already: labels[i, t] follows input_ids[i, t]. Padding is at the end.
        """

    def losses_and_hits(self, input_ids: Int64, labels: Int64) -> tuple[Float64, Bools]:
        """As `losses`, and whether each label is the token that the model finds most likely: bool [b, l]."""

    def losses_beside_base(self, input_ids: Int64, labels: Int64) -> tuple[Float64, Float64, Float64]:
        """As `losses`; at each label KL(base || model) of the next token's distribution, in nats, 0 where the label is -100; and the base's
        losses: float64 [b, l] all. Of a model that has a base (data.kl)."""

    def over(self, batches: Iterable[T], measure: Callable[[T], U]) -> Iterator[U]:
        """`measure` of every batch, in order. The ranks of a run divide the batches among them, and all get all values (pickled)."""

    def write(
        self, prompts: Sequence[Prompt], *, draws: int, limits: Limits, advance: Advance, sampling: SamplingConfig | None = None
    ) -> list[Generation]:
        """`draws` texts after each prompt: by prompt, then by draw. All ranks get all of them.

        advance: called with the number of texts that are finished. sampling: how tokens are chosen; None: as the configuration says.
        """


@dataclass(frozen=True)
class Measured:
    """What one evaluation of a set found."""

    values: dict[str, float]
    """Its metrics, by their names below <prefix>/<set>/."""
    texts: Sequence[WrittenText] = ()
    """What the model wrote for it."""
    documents: Mapping[str, ByDocument] = field(default_factory=dict)
    """By metric, what each document adds to it. Not of what is counted by its texts."""
    base: Mapping[str, float] = field(default_factory=dict)
    """Values of the model's base, where it was measured, too (data.kl): what `since_start` compares with in place of those of step 0."""


class EvaluationSet(ABC):
    """Fixed data, the same for every run with the same files, tokenizer and context length."""

    section: str
    """The mapping of data.* that it stands in."""
    name: str

    @property
    def key(self) -> str:
        return f"data.{self.section}.{self.name}"

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of what is measured, and of what is made of it."""

    @property
    @abstractmethod
    def tokens_read(self) -> int:
        """Tokens that one evaluation reads, and at most writes."""

    @property
    @abstractmethod
    def size(self) -> int:
        """What `measure` advances by in all, for progress."""

    @property
    @abstractmethod
    def limit(self) -> tuple[str, str]:
        """The key that bounds its size, and what that counts: ("data.validation.docs.max_tokens", "65,536 tokens")."""

    every_evaluations: int | None = 1
    """It is measured in every so many evaluations of a run, the first being that of step 0, and in the last; None: in these two alone."""
    is_sampled: bool = False
    """Whether what it measures depends on sampling.*."""
    writes: bool = False
    """Whether it lets the model write, token by token: what takes time."""
    cache_entry: str | None = None
    """The entry of the token cache that it was drawn from, if it was."""

    @property
    def largest_id(self) -> int:
        """The largest token id that it reads; 0 of a set that reads no tokens of its own."""
        return 0

    @property
    def not_to_train_on(self) -> Hashes | None:
        """uint64[documents]: hashes of texts that may not be trained on; None where there are none."""
        return None

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make now what measuring it takes besides the model, and put it into the cache."""

    @abstractmethod
    def measure(self, model: LanguageModel, advance: Advance) -> Measured:
        """Its metrics, and what lies behind them. The result does not depend on the number of ranks."""

    @property
    @abstractmethod
    def documents(self) -> int:
        """How many documents, questions or prompts it has."""

    @abstractmethod
    def only(self, chosen: Chosen, name: str) -> EvaluationSet:
        """The set of these documents, of another name."""

    def parts(self, share: float) -> tuple[EvaluationSet, EvaluationSet]:
        """The set without `share` of its documents, and NAME/report, these alone: every so many, in the order of their hashes.

        Raises InputError where one of the two would have none.
        """
        upto = np.floor(np.arange(self.documents + 1) * share + 1e-9)
        kept_back = np.diff(upto) > 0
        if not 0 < np.count_nonzero(kept_back) < self.documents:
            problem = f"of the {self.documents} documents of {self.key} both parts need at least one; valid: another share, or more data"
            raise wrong_value("data.report_share", share, problem)
        return self.only(~kept_back, self.name), self.only(kept_back, f"{self.name}/{REPORT}")

    def since_start(self, values: Mapping[str, float], initial: Mapping[str, float]) -> dict[str, float]:
        """What is logged besides: how the values compare with those of step 0, or of the base (see `Measured`)."""
        return {}

    @abstractmethod
    def summary(self) -> dict[str, int]:
        """What `harness data` shows of it, by column."""


def fitting(sizes: Sequence[int] | Int64, most: int | None, first: str) -> int:
    """How many documents fit into data.max_evaluation_tokens, from the first on. sizes: tokens that each costs; most: None: no bound.

    Raises InputError where `first`, as it is called, costs more.
    """
    upto = np.cumsum(sizes)
    kept = len(upto) if most is None else int(np.searchsorted(upto, most, side="right"))
    if kept == 0 and len(upto):
        raise wrong_value("data.max_evaluation_tokens", most, f"less than the {upto[0]} tokens of {first}")
    return kept


class TokenSet(EvaluationSet):
    """A set that reads documents of its own, each whole."""

    tokens: NDArray[Any]
    """Token ids [tokens] of the documents, one after the other."""
    lengths: Int64
    """int64[documents]: tokens of each."""

    @property
    def largest_id(self) -> int:
        return int(self.tokens.max())

    @property
    def tokens_read(self) -> int:
        return len(self.tokens)

    @property
    def size(self) -> int:
        return len(self.lengths)

    @staticmethod
    def _digest(*parts: NDArray[Any], of: str = "") -> str:
        """A fingerprint of arrays, and of a text."""
        digest = hashlib.sha256(of.encode())
        for part in parts:
            digest.update(part.tobytes())
        return digest.hexdigest()
