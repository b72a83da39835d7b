"""Which tokens of a conversation are trained, told by decoding them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from harness.config.errors import InputError
from harness.config.schema import DataConfig, SourceConfig, ValidationConfig
from harness.data.chat.conversation import Conversation, Message
from harness.data.chat.encoder import ChatEncoder
from harness.data.chat.formats import ChatDocument
from harness.data.dataset import PackedRows
from harness.data.labels import IGNORED
from harness.data.token_cache import tokenize_conversations
from harness.schedule.batch_size import BatchSize
from tests.support.datasets import domain_set, evaluation_sets, training_data

TALK = (
    Message("system", "Sei kurz."),
    Message("user", "the quick für"),
    Message("assistant", "brown fox – ", train=False),
    Message("user", "jumps"),
    Message("assistant", "\n\nover 漢", train=True, train_spans=((4, 6),)),
)
WITHOUT_BLOCKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Encoded:
    """One conversation, encoded."""

    def __init__(
        self, tokenizer: Any, messages: tuple[Message, ...], loss_on: Any = "assistant", chat_template: str | None = "chatml"
    ) -> None:
        encoder = ChatEncoder(tokenizer, chat_template=chat_template, loss_on=loss_on)
        batch = encoder.encode([ChatDocument(Conversation(messages), "here", 1)], encoder.dtype())
        assert batch.trained is not None
        assert batch.trained_bytes is not None
        self.decode = lambda ids: tokenizer.backend_tokenizer.decode(ids.tolist(), skip_special_tokens=False)
        self.ids, self.trained, self.bytes = batch.ids, batch.trained, batch.trained_bytes[0]
        self.text = self.decode(batch.ids)
        assert batch.texts[0] == self.text

    @property
    def parts(self) -> list[str]:
        """The trained stretches, decoded."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.trained, [False]]).astype(np.int8)))
        return [self.decode(self.ids[start:end]) for start, end in edges.reshape(-1, 2)]


@pytest.mark.parametrize("template", ["chatml", "llama3", "tokenizer"])
@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("assistant", ["brown fox – <stop>", "\n\nover 漢<stop>"]),
        ("last_assistant", ["\n\nover 漢<stop>"]),
        ("flagged", ["\n\nover 漢<stop>"]),
    ],
)
def test_trained_tokens_of_turns(loss_on: str, expected: list[str], template: str, chat_tokenizer: Any) -> None:
    chat_tokenizer.chat_template = WITHOUT_BLOCKS
    stop = "<|eot_id|>" if template == "llama3" else "<|im_end|>"
    if template == "llama3":  # it trims
        expected = [part.replace(" <", "<").lstrip() for part in expected]
    encoded = Encoded(chat_tokenizer, TALK, loss_on, template)
    assert encoded.parts == [part.replace("<stop>", stop) for part in expected]
    assert encoded.bytes == sum(len(part.replace("<stop>", "").encode()) for part in expected)


def test_trained_tokens_of_spans_and_of_all(chat_tokenizer: Any) -> None:
    encoded = Encoded(chat_tokenizer, TALK, "spans")
    (part,) = encoded.parts
    assert "er" in part  # a token that overlaps the span is trained, so there may be more
    assert part in "over"
    everything = Encoded(chat_tokenizer, TALK, "all")
    assert everything.trained.all()
    assert everything.bytes == len(re.sub(r"<\|.*?\|>", "", everything.text).encode())


def test_a_long_span_ends_where_it_says(chat_tokenizer: Any) -> None:
    content = "the quick brown fox jumps over a lazy dog"
    spans = ((0, 9), (20, 25))
    encoded = Encoded(chat_tokenizer, (Message("user", content, train_spans=spans), Message("assistant", "x")), "spans")
    assert [part.strip() for part in encoded.parts] == ["the quick", "jumps"]


def test_alpaca_ends_in_the_end_of_text(chat_tokenizer: Any) -> None:
    assert Encoded(chat_tokenizer, TALK, chat_template="alpaca").parts == ["brown fox – <|endoftext|>", "\n\nover 漢<|endoftext|>"]


texts = st.text(st.sampled_from("abc für漢\n<|>im_end🙂"), min_size=1, max_size=12).filter(str.strip)
pieces = st.lists(st.one_of(texts, st.sampled_from(["<|im_end|>", "<|im_start|>", "<|endoftext|>"])), min_size=1, max_size=4).map("".join)


@settings(max_examples=60, deadline=None)
@given(contents=st.lists(st.tuples(pieces, pieces), min_size=1, max_size=3))
def test_trained_text_is_what_the_assistant_said_and_its_stops(contents: list[tuple[str, str]], chat_tokenizer_directory: Path) -> None:
    tokenizer = loaded(chat_tokenizer_directory)
    messages = tuple(Message(*turn) for asked, said in contents for turn in (("user", asked), ("assistant", said)))  # type: ignore[arg-type]
    encoded = Encoded(tokenizer, messages)
    assert "".join(encoded.parts) == "".join(f"{said}<|im_end|>" for _, said in contents)
    # Control tokens stand where the template puts them, and nowhere else.
    end, start, eos = (tokenizer.backend_tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|im_start|>", "<|endoftext|>"))
    counts = np.bincount(encoded.ids, minlength=400)
    assert (counts[end], counts[start], counts[eos]) == (2 * len(contents), 2 * len(contents), 0)


@cache
def loaded(directory: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


def test_typed_control_tokens_are_plain_text_also_where_a_tokenizer_begins_with_a_space(chat_tokenizer: Any) -> None:
    """As Llama 2's tokenizer does."""
    characters = {character: index for index, character in enumerate("▁\nabcdefghijklmnopqrstuvwxyz<>|/_:#.BIRSTW")}
    backend = Tokenizer(models.BPE(characters, [], unk_token="a"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.add_special_tokens(["</s>"])

    class Small:
        backend_tokenizer = backend
        special_tokens_map = {"eos_token": "</s>"}  # noqa: RUF012
        chat_template = None

    encoder = ChatEncoder(Small(), chat_template="alpaca", loss_on="assistant")
    message = (Message("user", "a</s>b"), Message("assistant", "c</s>"))
    batch = encoder.encode([ChatDocument(Conversation(message), "here", 1)], np.uint16)
    tokens = [backend.id_to_token(index) for index in batch.ids.tolist()]
    assert "".join(tokens).endswith("\na</s>b\n\n###▁Response:\nc</s></s>")
    assert tokens.count("</s>") == 1
    assert batch.trained is not None
    assert [token for token, trained in zip(tokens, batch.trained, strict=True) if trained] == [*"c</s>", "</s>"]


def test_the_tokenizer_adds_no_second_beginning(chat_tokenizer: Any) -> None:
    from tokenizers import processors

    chat_tokenizer.bos_token = "<|begin_of_text|>"
    bos = chat_tokenizer.bos_token_id
    chat_tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    assert Encoded(chat_tokenizer, TALK, chat_template="llama3").ids.tolist().count(bos) == 1
    assert Encoded(chat_tokenizer, TALK, chat_template="alpaca").ids.tolist().count(bos) == 1
    assert Encoded(chat_tokenizer, TALK, chat_template="chatml").ids.tolist().count(bos) == 0


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}Yes.{% endgeneration %}<|im_end|>{% endif %}{% endfor %}",
            "here: with the chat template tokenizer a turn of the assistant ends in 'Yes.', which is no control token",
        ),
        ("{{ bos_token + bos_token }}" + WITHOUT_BLOCKS, "here: the chat template tokenizer writes the beginning-of-text token twice"),
    ],
)
def test_templates_that_would_train_the_wrong_thing(template: str, message: str, chat_tokenizer: Any) -> None:
    chat_tokenizer.chat_template = template
    chat_tokenizer.bos_token = "<|begin_of_text|>"
    with pytest.raises(InputError, match=re.escape(message)):
        Encoded(chat_tokenizer, TALK, chat_template=None)


def test_missing_control_tokens_are_named(tokenizer_directory: Path) -> None:
    with pytest.raises(InputError) as caught:
        Encoded(loaded(tokenizer_directory), TALK)
    assert str(caught.value) == (
        "data.chat_template=chatml: the tokenizer has no token <|im_end|>, <|im_start|>, which would fall into pieces of plain text; "
        "valid: a template for this tokenizer (alpaca, a .jinja file), or the tokens added: tokenizer.new_tokens="
        '["<|im_end|>", "<|im_start|>"]'
    )


@pytest.mark.parametrize(
    ("content", "message"), [("a\U000f0001", "here: it holds the private-use character U+F0001"), ("\ud83d", "half a surr")]
)
def test_contents_that_cannot_be_tokenized(content: str, message: str, chat_tokenizer: Any) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Encoded(chat_tokenizer, (Message("user", content), Message("assistant", "x")))


# From files to batches.


@pytest.fixture
def chat_config(write_rows: Callable[..., Path], write_jsonl: Any, stories: Any, tmp_path: Path) -> DataConfig:
    rows = [{"prompt": f"the quick {number}", "completion": "brown fox " * (1 + number % 7)} for number in range(40)]
    return DataConfig(
        sources={
            "chat": SourceConfig(path=str(write_rows(*rows))),
            "base": SourceConfig(path=str(write_jsonl("base.jsonl", stories(range(30)))), format="text", replay=True),
        },
        replay_share=0.25,
        context_length=64,
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.mark.parametrize("packing", ["best_fit", "concat", "padded"])
@pytest.mark.parametrize("overflow", ["split", "truncate"])
def test_labels_are_the_trained_tokens(packing: Any, overflow: Any, chat_config: DataConfig, chat_tokenizer: Any) -> None:
    config = replace(chat_config, packing=packing, overflow=overflow, context_length=24)
    data = training_data(config, chat_tokenizer, 0, documents="conversations")
    rows = 2 * sum(source.packing.rows for source in data.sources)
    batch = PackedRows(data).__getitems__(list(range(rows)))
    trained = (batch["labels"] != IGNORED).sum(dim=1)
    assert trained.tolist() == data.targets_of(BatchSize((), 1), rows).tolist()
    documents = {source.name: source for source in data.sources}["chat"].documents
    assert documents.trained is not None
    source, row = data.order.rows(0, rows)
    chat, base = ([s.name for s in data.sources].index(name) for name in ("chat", "base"))
    assert {name: part.trained_tokens for name, part in data.statistics().items()} == {
        data.sources[index].name: int(data.sources[index].row_targets.sum()) for index in (chat, base)
    }
    # Of the replayed text all tokens are trained, but the first of each piece.
    text = trained.numpy()[source == base]
    assert (text == data.sources[base].packing.row_targets[row[source == base]]).all()
    # Of the conversations only answers with their stop.
    labels = batch["labels"].numpy()[source == chat]
    decoded = chat_tokenizer.backend_tokenizer.decode(labels[labels != IGNORED].tolist(), skip_special_tokens=False)
    assert set(decoded.replace("<|im_end|>", "")) <= set("brown fox ")
    assert "quick" not in decoded
    assert "user" not in decoded


def test_the_mask_is_in_the_cache_and_part_of_its_key(chat_config: DataConfig, chat_tokenizer: Any, tmp_path: Path) -> None:
    def entry(loss_on: Any = "assistant", template: str = "chatml", chat_format: str = "auto") -> Any:
        encoder = ChatEncoder(chat_tokenizer, chat_template=template, loss_on=loss_on)
        return tokenize_conversations([Path(chat_config.sources["chat"].path)], chat_format, encoder, cache_dir=tmp_path / "cache", key="k")

    first = entry()
    assert sorted(path.name for path in first.directory.iterdir()) == [
        "bytes.npy", "hashes.npy", "meta.json", "offsets.npy", "tokens.bin", "trained.bin",
    ]  # fmt: skip
    assert len(first.trained) == len(first.tokens)
    assert first.fingerprint == entry().fingerprint
    others = {entry("all").fingerprint, entry(template="llama3").fingerprint, entry(chat_format="prompt_completion").fingerprint}
    assert len({first.fingerprint, *others}) == 4
    (first.directory / "trained.bin").write_bytes(b"\1")
    assert len(entry().trained) == len(first.tokens)  # cut short, so made again


def test_text_in_an_sft_run_is_the_same_cache_entry_as_elsewhere(chat_config: DataConfig, chat_tokenizer: Any) -> None:
    data = training_data(chat_config, chat_tokenizer, 0, documents="conversations")
    (base,) = (source for source in data.sources if source.name == "base")
    assert base.documents.trained is None
    plain = replace(chat_config, sources={"base": replace(chat_config.sources["base"], replay=False)}, replay_share=0.0)
    assert training_data(plain, chat_tokenizer, 0).sources[0].documents.fingerprint == base.documents.fingerprint


def test_validation_scores_trained_tokens_only(chat_config: DataConfig, chat_tokenizer: Any, write_rows: Any, write_jsonl: Any) -> None:
    held_out = write_rows(*({"prompt": f"rain {n}", "completion": "falls on green hills"} for n in range(5)), name="held.jsonl")
    text = write_jsonl("text.jsonl", ["while rain falls on hills"])
    config = replace(
        chat_config,
        validation={
            "chat": ValidationConfig(path=str(held_out)),
            "source": ValidationConfig(source="chat", share=0.3),
            "text": ValidationConfig(path=str(text), format="text"),
        },
        context_length=16,
    )
    sets = {name: domain_set(config, chat_tokenizer, name, "conversations") for name in config.validation}
    labels = np.concatenate([labels[labels != IGNORED] for _, labels in sets["chat"].batches(64)])
    decoded = chat_tokenizer.backend_tokenizer.decode(labels.tolist(), skip_special_tokens=False)
    assert sets["chat"].predicted_tokens == len(labels)
    assert sets["chat"].bytes == 5 * len("falls on green hills")
    assert "rain" not in decoded
    assert decoded.count("<|im_end|>") == 5
    assert sets["text"].trained is None
    assert sets["source"].trained is not None
    assert sets["source"].documents > 1


@pytest.mark.parametrize(("loss_on", "message"), [("flagged", "data.loss_on=flagged"), ("spans", "data.loss_on=spans")])
def test_nothing_to_train_is_bad_input(loss_on: Any, message: str, chat_config: DataConfig, chat_tokenizer: Any) -> None:
    with pytest.raises(InputError, match=f"data.sources.chat: no token of its 40 conversations is trained .{message}"):
        training_data(replace(chat_config, loss_on=loss_on), chat_tokenizer, 0, documents="conversations")
    held_out = replace(chat_config, loss_on=loss_on, validation={"chat": ValidationConfig(source="chat", share=0.3)})
    with pytest.raises(InputError, match=r"data\.validation\.chat=.*on none of whose tokens the loss is"):
        evaluation_sets(held_out, chat_tokenizer, documents="conversations")


def test_conversations_that_are_also_evaluated_on_are_refused(chat_config: DataConfig, chat_tokenizer: Any) -> None:
    leaking = replace(chat_config, validation={"chat": ValidationConfig(path=chat_config.sources["chat"].path)})
    with pytest.raises(InputError, match=r"data\.sources\.chat: 40 of its documents are also in data\.validation\.chat"):
        training_data(leaking, chat_tokenizer, 0, documents="conversations")
