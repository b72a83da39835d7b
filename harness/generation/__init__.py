"""Texts that a model writes: how the next token is chosen, and the loop that decodes.

    rows.py       prompts, and what comes of them; no torch
    row_state.py  a text while it is written; no torch
    noise.py      randomness as a function of row, position and token
    samplers/     what is done to logits before a token is chosen
    chain.py      the samplers of a configuration, in its order
    serving.py    the same for the engines that serve models; no torch

What is measured of such texts is a kind of evaluation (`harness.evaluation`), which lies above and asks a `LanguageModel` to write.
"""
