"""Tokenizers and causal language models of transformers: loaded, built from scratch, probed."""
