"""Conversations to tokens, and to which of them are trained on.

    read_conversations      formats.py        rows of ShareGPT, Alpaca, messages, prompt and completion, to one message schema
    turns, tools, …         parts.py          the parts of such a row, in all their spellings
    Conversation            conversation.py   that schema, and the order in which roles may speak
    ChatTemplate            template.py       a conversation as text, by a Jinja chat template, with the assistant's turns known
    trained_spans           loss_spans.py     which characters the loss is on
    ChatEncoder             encoder.py        text and spans to token ids and a mask

templates/ holds the chat templates that ship with the harness.
"""
