"""Adapters: a few trained weights on a frozen model.

lora.py         low-rank updates, through peft
soft_prompt.py  trained embeddings before every document
build.py        from the configuration to a model with adapters
plain.py        export: adapters merged, or by themselves in peft's format
"""
