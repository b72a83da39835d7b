"""Files to tokens, as texts or as conversations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, TypedDict, assert_never

from harness.config.schema import (
    ContrastConfig,
    DataConfig,
    GenerationConfig,
    MultipleChoiceConfig,
    PreferenceConfig,
    SourceConfig,
    ValidationConfig,
)
from harness.data.chat.encoder import ChatEncoder, build_chat_encoder
from harness.data.chat.formats import begins_with_conversation
from harness.data.preference.encoder import AnswerEncoder, ChatAnswers, TextAnswers
from harness.data.preference.formats import begins_with_label, begins_with_pair
from harness.data.row import BadRows
from harness.data.sources import SourceFiles, find_sources
from harness.data.text_encoder import TextEncoder, TokenizerLike
from harness.data.token_cache import (
    TokenizedDocuments,
    described_drops,
    tokenize,
    tokenize_conversations,
    tokenize_labelled,
    tokenize_pairs,
)
from harness.runs.cache import default_cache_dir

log = logging.getLogger("harness")

LEAVE_OUT = "; data.malformed=skip leaves such rows out"
Documents = Literal["texts", "conversations", "either", "pairs", "answers"]
"""The content of files. texts: plain text, whatever their format; conversations: unless their format is text; either: detected from the
first row if their format is auto; pairs: of sources pairs of answers, of validation sets either; answers: the same with answers that have
labels, and those of pairs one by one."""
Progress = Callable[[str, int, int], None]
"""Called while text is tokenized: configuration key of the source or set, bytes of its files read so far, bytes of all of them."""


FilesConfig = SourceConfig | ValidationConfig | MultipleChoiceConfig | GenerationConfig | PreferenceConfig | ContrastConfig


PREFERENCE_FORMATS = ("preference", "preference_text")


class _Reading(TypedDict):
    cache_dir: Path
    key: str
    bad: BadRows
    progress: Callable[[int, int], None] | None
    verify: bool


class Tokenization:
    """The files of a configuration as tokens; each is tokenized once."""

    def __init__(
        self,
        config: DataConfig,
        tokenizer: TokenizerLike,
        progress: Progress | None = None,
        *,
        documents: Documents = "texts",
        verify: bool = False,
    ) -> None:
        """verify: read all that is in the cache before it is believed."""
        self.config, self.tokenizer, self._progress = config, tokenizer, progress
        self._verify = verify
        self.documents: Documents = documents
        """What the objective reads."""
        self.has_read_conversations = False
        self._said: set[str] = set()

    # A large tokenizer takes a second to be read anew, so all files share them.

    @cached_property
    def _text(self) -> TextEncoder:
        config = self.config
        return TextEncoder(self.tokenizer, append_eos=config.append_eos, split_special_tokens=config.split_special_tokens)

    @cached_property
    def _chat(self) -> ChatEncoder:
        return build_chat_encoder(self.config, self.tokenizer)

    def of_source(self, name: str) -> TokenizedDocuments:
        """data.sources.<name>. Raises InputError for what cannot be read."""
        key, given = f"data.sources.{name}", self.config.sources[name]
        is_named = given.format in PREFERENCE_FORMATS
        if self.documents == "conversations" and given.format == "preference_text":
            return self._of_chosen_texts(key, given)
        if self.documents not in ("pairs", "answers") or not (is_named or given.format == "auto"):
            return self.of_path(key, given)
        first = self.files(key, given).files[0]
        if self.documents == "pairs":
            return self.of_pairs(key, given) if is_named or begins_with_pair(first, key=key) else self.of_path(key, given)
        if begins_with_pair(first, key=key):
            return self.of_pairs(key, given).as_answers()
        return self._of_labelled(key, given) if is_named or begins_with_label(first, key=key) else self.of_path(key, given)

    def of_pairs(self, key: str, given: SourceConfig | PreferenceConfig) -> TokenizedDocuments:
        """The pairs of answers at the path of what the configuration has under `key`. Raises InputError for what holds none."""
        source = self.files(key, given)
        found = tokenize_pairs(source.files, self._answer_encoder(given), rejected=given.rejected, **self._reading(key))
        self._say_once(key, source, found)
        return found

    def _of_labelled(self, key: str, given: SourceConfig) -> TokenizedDocuments:
        source = self.files(key, given)
        found = tokenize_labelled(source.files, self._answer_encoder(given), **self._reading(key))
        self._say_once(key, source, found)
        return found

    def _of_chosen_texts(self, key: str, given: SourceConfig) -> TokenizedDocuments:
        source = self.files(key, given)
        texts = TextAnswers(self._text, min_score_gap=given.min_score_gap)
        found = tokenize_labelled(source.files, texts, of_pairs=True, **self._reading(key))
        self._say_once(key, source, found)
        return replace(found, labels=None)

    def _answer_encoder(self, given: SourceConfig | PreferenceConfig) -> AnswerEncoder:
        if given.format == "preference_text":
            return TextAnswers(self._text, min_score_gap=given.min_score_gap)
        self.has_read_conversations = True
        return ChatAnswers(self._chat, min_score_gap=given.min_score_gap)

    def of_path(self, key: str, given: SourceConfig | ValidationConfig) -> TokenizedDocuments:
        """The files at the path of what the configuration has under `key`. Raises InputError for what cannot be read."""
        source, field, data_format = self.files(key, given), given.field, given.format
        files = source.files
        if self._are_conversations(files, key, field, data_format):
            self.has_read_conversations = True
            found = tokenize_conversations(files, data_format, self._chat, **self._reading(key))
        else:
            found = tokenize(files, field, self._text, **self._reading(key))
        self._say_once(key, source, found)
        return found

    def _reading(self, key: str) -> _Reading:
        """How files are read, whatever they hold."""
        return {
            "cache_dir": default_cache_dir(self.config.cache_dir),
            "key": key,
            "bad": BadRows(skip=self.config.malformed == "skip", max_share=self.config.max_malformed_share, remedy=LEAVE_OUT),
            "progress": None if self._progress is None else partial(self._progress, key),
            "verify": self._verify,
        }

    def _say_once(self, key: str, source: SourceFiles, found: TokenizedDocuments) -> None:
        if key not in self._said:
            self._said.add(key)
            _say(key, source, found, self.config)

    def files(self, key: str, given: FilesConfig) -> SourceFiles:
        """The files that are meant, on this machine: fetched, where they are elsewhere and not in the cache."""
        assert given.path is not None, "checked: it has files of its own"
        cache_dir = default_cache_dir(self.config.cache_dir)
        return find_sources(given.path, key=key, split=given.split, subset=given.subset, cache_dir=cache_dir)

    def _are_conversations(self, files: list[Path], key: str, field: str, data_format: str) -> bool:
        match self.documents:
            case "texts":
                return False
            case "conversations":
                return data_format != "text"
            case "either" | "pairs" | "answers":
                return begins_with_conversation(files[0], field, key=key) if data_format == "auto" else data_format != "text"
            case _:
                assert_never(self.documents)


def _say(key: str, source: SourceFiles, found: TokenizedDocuments, config: DataConfig) -> None:
    """Say what is not trained on though it is there, or is trained otherwise than it may be meant."""
    if source.left_out:
        log.info("%s: left out: %s", key, source.left_out_by_kind())
    if found.left_out:
        rows = found.left_out + found.documents
        log.warning(
            "%s: %d of %d rows left out (data.malformed=skip); first: %s", key, found.left_out, rows, "; ".join(found.left_out_first)
        )
    if found.dropped:
        unit, kept = ("pairs", found.documents // 2) if found.are_pairs else ("answers", found.documents)
        lost = sum(found.dropped.values())
        log.info("%s: %d of %d %s are dropped: %s", key, lost, kept + lost, unit, described_drops(found.dropped))
    if found.with_control_tokens:
        become = "plain tokens (data.split_special_tokens=true)" if config.split_special_tokens else "control tokens"
        log.info(
            "%s: control tokens are typed in %d of %d documents; they become %s", key, found.with_control_tokens, found.documents, become
        )
