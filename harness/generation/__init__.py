"""Texts that a model writes: how the next token is chosen, and the loop that decodes.

    rows.py          prompts, and what comes of them; no torch
    prompts.py       rows of files to prompts; no torch
    row_state.py     a text while it is written; no torch
    noise.py         randomness as a function of row, position and token
    samplers/        what is done to logits before a token is chosen
    chain.py         the samplers of a configuration, in its order
    engine.py        rows that are written together, as each would be alone; some end, and others take their place
    writing.py       a row under way, and when it ends (ends.py: at which tokens; written_text.py: its text, and stop strings)
    decode.py        what the model says of the next token of a batch, whose rows come and go (cache.py: what it remembers of them)
    choice.py        which token it becomes; close calls are decided alone
    probe.py         whether a model can be read in batches at all
    build.py         the engine of a configuration
    serving.py       the same for the engines that serve models; no torch

What is measured of such texts is a kind of evaluation (`harness.evaluation`), which lies above and asks a `LanguageModel` to write.
"""
