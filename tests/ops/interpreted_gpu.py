"""The Triton kernels of sampling through Triton's interpreter, on the CPU.

Triton must be imported with TRITON_INTERPRET=1, so `test_gpu.py` runs this file in a process of its own.
"""

import pytest
import torch

from atmviz.ops import gpu


def both_ways(x, offset, grad, axis):
    return gpu.forward(x, offset, axis), *gpu.backward(grad, x, offset, axis)


def near_and_far(*shape):
    """Offsets of 0.3 tokens up to the whole map, beyond it and infinite ones, side by side in every line."""
    scales = torch.tensor([0.3, 0.3, 4, 60, 1e30, float("inf")])
    offset = torch.randn(shape) * scales[torch.randint(len(scales), shape)]
    return (4096 * offset).round() / 4096  # float32 positions of 300 tokens are exact


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(
    ("shape", "num_offsets"),  # images, lines, tokens of a line, channels
    [
        ((2, 5, 7, 6), 6),  # S = 1
        ((2, 5, 7, 6), 2),  # S = 3: no power of two
        ((1, 3, 19, 8), 4),  # S = 2; more tokens than a step of the forward pass takes
        ((1, 2, 14, 16), 4),  # S = 4
        ((1, 2, 2, 160), 80),  # more offsets than one program takes; 80 is no power of two
        ((1, 1, 1, 8), 1),  # S = 8
        ((1, 1, 7, 512), 2),  # S = 256
        ((1, 1, 300, 4), 2),
    ],
)
def test_kernels_equal_the_reference(assert_equals_float64, axis, shape, num_offsets):
    if axis == 1:
        shape = (shape[0], shape[2], shape[1], shape[3])
    x, grad, offset = torch.randn(shape), torch.randn(shape), near_and_far(*shape[:3], num_offsets)
    assert_equals_float64(both_ways(x, offset, grad, axis), x, offset, grad, axis)


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
def test_every_width_is_computed_in_float32_or_wider_and_rounded_once(assert_equals_float64, dtype, offset_dtype):
    x, grad = torch.randn(1, 3, 7, 6).to(dtype), torch.randn(1, 3, 7, 6).to(dtype)
    offset = (3 * torch.randn(1, 3, 7, 3)).to(offset_dtype)
    assert_equals_float64(both_ways(x, offset, grad, 2), x, offset, grad, 2)


def test_half_precision_gradients_are_added_up_in_float32():
    """All queries of a line read token 0: bfloat16 sums of ones would stop at 256."""
    x, offset = torch.zeros(1, 1, 300, 1), -torch.arange(300.0).view(1, 1, 300, 1)
    (grad_x,) = gpu.backward(torch.ones_like(x).bfloat16(), x.bfloat16(), offset, 2, learns_offset=False)
    assert grad_x[0, 0, :2, 0].tolist() == [300, 0]


@pytest.mark.parametrize("axis", [1, 2])
def test_offsets_of_both_directions_are_read_where_they_lie(assert_equals_float64, axis):
    x, grad = torch.randn(2, 3, 5, 8), torch.randn(2, 5, 3, 8).transpose(1, 2)
    offset = (2 * torch.randn(2, 3, 5, 2, 4))[..., axis - 1, :]
    assert not offset.is_contiguous()
    assert_equals_float64(both_ways(x, offset, grad, axis), x, offset, grad, axis)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_border_fades_over_one_token(assert_equals_float64, axis):
    targets = torch.tensor([-2, -1.5, -1, -0.5, 0, 4, 4.5, 5, 5.5, 6, -1e30, float("inf")])
    x, grad = torch.randn(1, 5, 5, 24), torch.randn(1, 5, 5, 24)
    own = torch.arange(5.0).view((1, 5, 1, 1) if axis == 1 else (1, 1, 5, 1))
    offset = (targets - own).expand(1, 5, 5, 12)
    assert_equals_float64(both_ways(x, offset, grad, axis), x, offset, grad, axis)


def test_a_nan_is_read_as_nan_and_stays_with_its_offset(assert_equals_float64):
    x, grad, offset = torch.randn(1, 1, 5, 8), torch.randn(1, 1, 5, 8), torch.randn(1, 1, 5, 4)
    offset[0, 0, 2, 1] = float("nan")
    out, grad_x, grad_offset = both_ways(x, offset, grad, 2)
    assert out.isnan().nonzero()[:, 2:].tolist() == [[2, 2], [2, 3]]
    others = [0, 1, 4, 5, 6, 7]
    results = [tensor[..., o] for tensor, o in ((out, others), (grad_x, others), (grad_offset, [0, 2, 3]))]
    assert_equals_float64(results, x[..., others], offset[..., [0, 2, 3]], grad[..., others], 2)
    assert not grad_offset.isnan().any()


def test_only_gradients_asked_for_are_computed():
    x, grad, offset = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 4)
    grad_x, grad_offset = gpu.backward(grad, x, offset, 2)
    (alone,) = gpu.backward(grad, x, offset, 2, learns_offset=False)
    assert torch.equal(alone, grad_x)
    (alone,) = gpu.backward(grad, x, offset, 2, learns_x=False)
    assert torch.equal(alone, grad_offset)


def test_a_batch_of_no_images_is_fine():
    x, offset = torch.empty(0, 4, 4, 4), torch.empty(0, 4, 4, 2)
    assert gpu.forward(x, offset, 1).shape == x.shape
    assert [grad.shape for grad in gpu.backward(x, x, offset, 1)] == [x.shape, offset.shape]


def test_as_many_lines_as_a_batch_has_are_one_dimension_of_programs(monkeypatch):
    """A second dimension would end at 65,535; this counts programs instead of running 70,000."""
    grids = []

    class Kernel:
        def __getitem__(self, grid):
            grids.append(grid)
            return lambda *_, **__: None

    monkeypatch.setattr(gpu, "_forward", Kernel())
    gpu.forward(torch.zeros(70_000, 1, 2, 2), torch.zeros(70_000, 1, 2, 1), 2)
    assert grids == [(70_000,)]
