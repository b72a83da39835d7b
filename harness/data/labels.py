"""Labels of predicted positions."""

IGNORED = -100
"""The label of a position that is not to be predicted: what torch's cross entropy ignores."""
