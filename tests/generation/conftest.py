"""The same small tokenizers and rows as in the tests of data."""

from tests.data.conftest import chat_tokenizer, chat_tokenizer_directory, tokenizer_directory, write_rows

__all__ = ["chat_tokenizer", "chat_tokenizer_directory", "tokenizer_directory", "write_rows"]
