"""Steering: directions in the residual stream, found from contrast pairs.

extraction.py   one pass over the pairs: the directions of all blocks, by all methods, and how well the pairs agree
vector_file.py  a direction on disk: safetensors and JSON
gguf.py         a control vector of llama.cpp
baked.py        a direction as a part of the model's own weights
The adapter is in harness/models/adapters (steering.py, ablation.py).
"""
