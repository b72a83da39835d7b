"""A real llama.cpp that serves a small model: what our samplers are compared with."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ("<unk>", "<s>", "</s>")
CONTEXT = 256


def vocabulary(words: Sequence[str]) -> list[str]:
    """The tokens of a SentencePiece vocabulary: special ones, bytes of ASCII, and these words (▁ stands for a space)."""
    return [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(128)), *words]


def small_llama(tokens: int, *, layers: int = 2) -> LlamaForCausalLM:
    """Random weights, whose predictions are about as sharp as those of a trained model."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.3)
        model.lm_head.weight.mul_(1.5)
    return model


def write_gguf(path: Path, model: LlamaForCausalLM, tokens: Sequence[str]) -> None:
    """The model in float32, with a SentencePiece vocabulary of these tokens."""
    from gguf import GGUFWriter, LlamaFileType, TokenType

    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(tokens))
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    kinds += [TokenType.BYTE if token.startswith("<0x") else TokenType.NORMAL for token in tokens[len(SPECIAL) :]]
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    weights = {name: weight.detach().numpy() for name, weight in model.state_dict().items()}
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for layer in range(config.num_hidden_layers):
        names |= {f"model.layers.{layer}.{ours}": f"blk.{layer}.{theirs}" for ours, theirs in parts.items()}
    for name, weight in weights.items():
        if "q_proj" in name:
            weight = _interleaved(weight, config.num_attention_heads)
        elif "k_proj" in name:
            weight = _interleaved(weight, config.num_key_value_heads)
        writer.add_tensor(names[name.removesuffix(".weight")] + ".weight", np.ascontiguousarray(weight, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of llama.cpp, which rotates neighbours where transformers rotates halves."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


class WordTokenizer:
    """What DRY asks of a tokenizer, for tokens of which none is part of another's."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._texts = [chr(int(token[3:5], 16)) if token.startswith("<0x") else token.replace("▁", " ") for token in tokens]

    def __len__(self) -> int:
        return len(self._texts)

    def batch_decode(self, rows: Sequence[Sequence[int]], **kwargs: Any) -> list[str]:
        return ["".join(self._texts[token] for token in row) for row in rows]

    def encode(self, text: str, **kwargs: Any) -> list[int]:
        return [self._texts.index(letter) for letter in text]


class LlamaServer:
    """Asks a server on loopback."""

    def __init__(self, address: str) -> None:
        self._address = address

    def write(self, prompt: Sequence[int], most: int, vocabulary: int, **settings: Any) -> Iterator[tuple[int, Tensor]]:
        """The tokens that it writes, each with what it was drawn from after all samplers: float64 [vocabulary], 0 for what was removed."""
        request = {"prompt": list(prompt), "n_predict": most, "n_probs": vocabulary, "post_sampling_probs": True, **settings}
        call = urllib.request.Request(f"{self._address}/completion", json.dumps(request).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(call, timeout=30) as response:
                positions = json.load(response)["completion_probabilities"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"llama.cpp refuses {request}: {error.read().decode()}") from error
        for position in positions:
            p = torch.zeros(vocabulary, dtype=torch.float64)
            for entry in position["top_probs"]:
                p[entry["id"]] = entry["prob"]
            yield position["id"], p


@contextmanager
def llama_server(model: Path) -> Iterator[LlamaServer]:
    """llama.cpp with this model, in this process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel = CONTEXT, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    try:
        yield LlamaServer(server.listening_address)
    finally:
        del server
