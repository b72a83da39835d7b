"""Which errors say that memory ran out."""

from __future__ import annotations

import pytest
import torch

from harness.training.memory import is_out_of_memory


def test_a_real_allocation_that_the_host_refuses() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def fail_for_memory() -> None:
    try:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    except RuntimeError as error:
        raise ValueError("the step failed") from error


def test_one_of_a_device_though_another_error_came_of_it() -> None:
    with pytest.raises(ValueError, match="the step failed") as caught:
        fail_for_memory()
    assert is_out_of_memory(caught.value)


def test_other_errors_of_torch_are_none() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(caught.value)
