"""Verifiers: whether a text is what was asked for. Pure functions of a text and a reference; no torch.

verifier.py        what a verifier is: how it reads a row's reference, and what it says of a text
build.py           the verifier of data.generation.<name>.verifier
exact.py           the same text
normalised.py      the same words (and contains: the same words somewhere in the text)
number.py          the same number: the last one, or the one after ####
pattern.py         a regular expression, bounded in time
json_document.py   JSON that a schema holds of
tool_call.py       calls of tools as the Hermes models write them
"""
