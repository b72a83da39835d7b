"""Control vectors in a real llama.cpp: our file, read by its own loader, acts there as the steered model does."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.config.errors import InputError
from harness.config.schema import AdapterConfig
from harness.models.adapters.steering import Directions, Steering, plan_steering
from harness.models.steering.extraction import random_direction
from harness.models.steering.gguf import control_vector, not_proved
from tests.support.llama_cpp import small_llama, vocabulary, write_gguf

BLOCKS, WIDTH = 4, 32
MOST = 0.1
"""Of logits of -8 to 8. llama.cpp keeps keys and values in half precision, which these sharp random weights amplify (0.05 measured);
behind another block the same vector moves them by 30 times as much."""


def planned(**adapter: Any) -> Steering:
    vectors = {block: random_direction(WIDTH, draw=3, block=block) for block in range(BLOCKS)}
    return plan_steering(AdapterConfig(name="steering", **adapter), Directions(vectors, torch.full((BLOCKS,), 10.0)))


def file_of(steering: Steering) -> bytes:
    return control_vector({block: steering.added(block) for block in steering.units}, family="llama")


def test_gguf_reads_the_file(tmp_path: Path) -> None:
    from gguf import GGUFReader

    steering = planned(block=2, width=1, coefficient=0.5)
    (tmp_path / "v.gguf").write_bytes(file_of(steering))
    reader = GGUFReader(tmp_path / "v.gguf")
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == 3
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.2", "direction.3"]
    for tensor, block in zip(reader.tensors, (1, 2, 3), strict=True):
        assert tensor.data.dtype == np.float32
        np.testing.assert_array_equal(tensor.data, steering.added(block).numpy())


def test_of_a_family_that_was_not_compared_it_is_said() -> None:
    assert not_proved("llama") is None
    assert "not for qwen2: compare what both write" in str(not_proved("qwen2"))


def test_block_0_is_refused() -> None:
    with pytest.raises(InputError, match=r"adapter\.block=0: .* begins behind block 1"):
        file_of(planned(block=0))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its C++ functions are called as x86-64 calls them")
@pytest.mark.slow
def test_llama_cpp_computes_what_the_steered_model_does(tmp_path: Path, one_torch_thread: None) -> None:
    tokens = vocabulary([f"w{index}" for index in range(60)])
    model = small_llama(len(tokens), layers=BLOCKS)
    write_gguf(tmp_path / "model.gguf", model, tokens)
    ids = torch.randint(3, len(tokens), (1, 12), generator=torch.Generator().manual_seed(0))
    with llama_cpp(tmp_path / "model.gguf") as llama:
        for block in range(1, BLOCKS):
            steering = planned(block=block, coefficient=0.5)
            (tmp_path / "v.gguf").write_bytes(file_of(steering))
            loaded = llama.steer(tmp_path / "v.gguf")
            np.testing.assert_array_equal(loaded[block - 1], steering.added(block).numpy())
            assert not loaded[: block - 1].any()
            found = llama.logits(ids[0].tolist(), len(tokens))
            # The same vector behind every block, and nowhere.
            added = steering.added(block)
            behind: dict[int | None, float] = {
                other: float(np.abs(found - steered_logits(model, other, added, ids)).max()) for other in range(BLOCKS)
            }
            behind[None] = float(np.abs(found - steered_logits(model, 0, 0 * added, ids)).max())
            nearest = behind.pop(block)
            assert nearest < MOST
            assert min(behind.values()) > 20 * nearest


def steered_logits(model: Any, block: int, added: torch.Tensor, ids: torch.Tensor) -> np.ndarray:
    """Of what follows, with the vector behind a block: float32 [V]."""
    handle = model.model.layers[block].register_forward_hook(lambda _, args, output: output + added)
    try:
        with torch.no_grad():
            logits: np.ndarray = model(input_ids=ids).logits[0, -1].numpy()
    finally:
        handle.remove()
    return logits


class Opaque(ctypes.Structure):
    """A structure of llama.cpp's, at least as large as any of them: passed and returned by address or on the stack."""

    _fields_ = (("content", ctypes.c_byte * 1024),)


class Vector(ctypes.Structure):
    """std::vector"""

    _fields_ = (("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("capacity", ctypes.c_void_p))


class LoadInfo(ctypes.Structure):
    """common_control_vector_load_info of llama.cpp's common.h, for --control-vector; the wheel's std::string points to letters."""

    _fields_ = (("strength", ctypes.c_float), ("file", ctypes.c_char_p))


class Loaded(ctypes.Structure):
    """common_control_vector_data: of blocks 1, 2, … up to the last that the file names; a width of -1 where it cannot be used."""

    _fields_ = (("width", ctypes.c_int), ("data", Vector))


LOADER = "_Z26common_control_vector_loadRKSt6vectorI31common_control_vector_load_infoSaIS0_EE"


class Llama:
    """A model in llama.cpp, through its C interface."""

    def __init__(self, path: Path) -> None:
        import xllamacpp.xllamacpp as wheel

        self._lib: Any = ctypes.CDLL(wheel.__file__)
        pointer, lib = ctypes.c_void_p, self._lib
        lib.llama_model_default_params.restype = lib.llama_context_default_params.restype = lib.llama_batch_get_one.restype = Opaque
        lib.llama_model_load_from_file.restype = lib.llama_init_from_model.restype = pointer
        lib.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
        lib.llama_model_load_from_file.argtypes, lib.llama_init_from_model.argtypes = (ctypes.c_char_p, Opaque), (pointer, Opaque)
        lib.llama_decode.argtypes, lib.llama_get_logits_ith.argtypes = (pointer, Opaque), (pointer, ctypes.c_int32)
        lib.llama_set_adapter_cvec.argtypes = (pointer, pointer, ctypes.c_size_t, *[ctypes.c_int32] * 3)
        lib.llama_free.argtypes = lib.llama_model_free.argtypes = lib.llama_memory_clear.argtypes = lib.llama_get_memory.argtypes = (
            pointer,
        )
        lib.llama_get_memory.restype = pointer
        lib.llama_memory_clear.argtypes = (pointer, ctypes.c_bool)
        lib.llama_backend_init()
        self._model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        self._context = lib.llama_init_from_model(self._model, lib.llama_context_default_params())
        assert self._context

    def steer(self, file: Path) -> np.ndarray:
        """As --control-vector does; what was read of the file, from block 1 on: float32 [blocks, WIDTH]."""
        info, loaded = LoadInfo(1.0, str(file).encode()), Loaded()
        start = ctypes.addressof(info)
        infos = Vector(start, start + ctypes.sizeof(info), start + ctypes.sizeof(info))
        # An object that C++ returns is written where the caller says, before all other arguments.
        getattr(self._lib, LOADER)(ctypes.byref(loaded), ctypes.byref(infos))
        assert loaded.width == WIDTH
        size = (loaded.data.end - loaded.data.begin) // ctypes.sizeof(ctypes.c_float)
        assert self._lib.llama_set_adapter_cvec(self._context, loaded.data.begin, size, loaded.width, 1, BLOCKS) == 0
        data = ctypes.cast(loaded.data.begin, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(data, (size,)).reshape(-1, WIDTH).copy()

    def logits(self, ids: list[int], vocabulary: int) -> np.ndarray:
        """Of what follows: float32 [vocabulary]."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        tokens = (ctypes.c_int32 * len(ids))(*ids)
        assert self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(tokens, len(ids))) == 0
        return np.ctypeslib.as_array(self._lib.llama_get_logits_ith(self._context, -1), (vocabulary,)).copy()

    def close(self) -> None:
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)


@contextmanager
def llama_cpp(path: Path) -> Iterator[Llama]:
    llama = Llama(path)
    try:
        yield llama
    finally:
        llama.close()
