"""The Triton kernels through Triton's interpreter, on the CPU.

Triton must be imported with TRITON_INTERPRET=1, so `test_gpu.py` runs this file in a process of its own.
"""

import pytest
import torch

from atmviz.ops import gpu


def both_ways(x, offset, grad, axis):
    return gpu.forward(x, offset, axis), *gpu.backward(grad, x, offset, axis)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(
    ("shape", "num_offsets"),
    [
        ((2, 5, 7, 6), 6),
        ((2, 5, 7, 6), 2),  # three channels share one: no power of two
        ((1, 3, 19, 8), 4),  # more tokens than one program takes
        ((1, 2, 2, 160), 80),  # more offsets than one program takes
        ((1, 1, 1, 8), 1),
    ],
)
@pytest.mark.parametrize("spread", [0.3, 4, 60])
def test_kernels_equal_the_reference(assert_equals_float64, axis, shape, num_offsets, spread):
    x, grad = torch.randn(shape), torch.randn(shape)
    offset = spread * torch.randn(*shape[:3], num_offsets)
    assert_equals_float64(both_ways(x, offset, grad, axis), x, offset, grad, axis)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(
    ("dtype", "offset_dtype"),
    [  # the interpreter cannot convert between bfloat16 and float64
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float16),
        (torch.float16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_every_width_is_computed_in_float32_or_wider_and_rounded_once(assert_equals_float64, axis, dtype, offset_dtype):
    x, grad = torch.randn(2, 5, 7, 6).to(dtype), torch.randn(2, 5, 7, 6).to(dtype)
    offset = (3 * torch.randn(2, 5, 7, 3)).to(offset_dtype)
    results = both_ways(x, offset, grad, axis)
    assert_equals_float64(results, x, offset, grad, axis)


@pytest.mark.parametrize("axis", [1, 2])
def test_offsets_of_both_directions_are_read_where_they_lie(assert_equals_float64, axis):
    x, grad = torch.randn(2, 5, 7, 8), torch.randn(2, 7, 5, 8).transpose(1, 2)
    offset = (2 * torch.randn(2, 5, 7, 2, 4))[..., axis - 1, :]
    assert not offset.is_contiguous()
    assert_equals_float64(both_ways(x, offset, grad, axis), x, offset, grad, axis)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("target", [-2, -1.5, -1, -0.5, 0, 4, 4.5, 5, 5.5, 6, -1e30, float("inf")])
def test_the_border_fades_over_one_token(assert_equals_float64, axis, target):
    x, grad = torch.randn(1, 5, 5, 4), torch.randn(1, 5, 5, 4)
    own = torch.arange(5.0).view((1, 5, 1, 1) if axis == 1 else (1, 1, 5, 1))
    offset = (target - own).expand(1, 5, 5, 4)
    assert_equals_float64(both_ways(x, offset, grad, axis), x, offset, grad, axis)


def test_a_batch_of_no_images_is_fine():
    x, offset = torch.empty(0, 4, 4, 4), torch.empty(0, 4, 4, 2)
    assert gpu.forward(x, offset, 1).shape == x.shape
    assert [grad.shape for grad in gpu.backward(x, x, offset, 1)] == [x.shape, offset.shape]
