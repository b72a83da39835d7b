"""Weights of several models become those of one: methods on rows of tensors, read a few rows at a time. No torch."""
