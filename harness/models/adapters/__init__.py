"""Adapters: a few trained weights on a frozen model.

lora.py         low-rank updates, through peft
soft_prompt.py  trained embeddings before every document
steering.py     a direction added behind blocks
ablation.py     a direction taken out of all that is written into the residual stream
build.py        from the configuration to a model with adapters
plain.py        export: adapters merged, or by themselves in peft's format
"""
