"""Texts that a model writes: how the next token is chosen, and the loop that decodes.

    rows.py       prompts, and what comes of them; no torch
    prompts.py    rows of files to prompts; no torch

What is measured of such texts is a kind of evaluation (`harness.evaluation`), which lies above and asks a `LanguageModel` to write.
"""
