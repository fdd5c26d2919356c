"""The Triton kernels of the weighted sum through Triton's interpreter, on the CPU; see `interpreted_gpu.py`."""

import pytest
import torch

from atmviz.ops import gpu_fusion


def formula(branches, weights):
    return sum(weights[:, None, None, :, k] * branches[k] for k in range(len(branches)))


def both_ways(branches, weights, grad, wide=True):
    return gpu_fusion.weighted_sum(branches, weights, wide), *gpu_fusion.weighted_sum_backward(grad, branches, weights)


def in_float64(branches, weights, grad):
    inputs = [tensor.double().requires_grad_() for tensor in (*branches, weights)]
    out = formula(inputs[:-1], inputs[-1])
    return out.detach(), *torch.autograd.grad(out, inputs, grad.double())


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((2, 7, 7, 64), 3),
        ((1, 9, 15, 96), 3),  # three runs of tokens, the last one cut off; two blocks of channels, likewise
        ((2, 3, 2, 5), 2),
        ((1, 1, 1, 1), 4),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_values_and_gradients_are_those_of_the_formula(shape, count, dtype):
    branches, grad = [torch.randn(shape).to(dtype) for _ in range(count)], torch.randn(shape).to(dtype)
    weights = torch.randn(shape[0], shape[3], count)
    results, exact = both_ways(branches, weights, grad, wide=False), in_float64(branches, weights, grad)
    assert [result.dtype for result in results] == [dtype] * (count + 1) + [torch.float32]
    for result, expected in zip(results, exact, strict=True):
        eps = torch.finfo(result.dtype).eps  # rounded once
        torch.testing.assert_close(result.double(), expected, rtol=max(eps, 1e-6), atol=1e-5)


def test_bfloat16_sums_of_many_tokens_are_float32():
    """The gradient of each weight is 640 ones: bfloat16 sums would stop at 256."""
    branches, weights = [torch.ones(1, 20, 32, 2).bfloat16()] * 3, torch.full((1, 2, 3), 0.5)
    out, *grad_branches, grad_weights = both_ways(branches, weights, branches[0], wide=False)
    assert (out == 1.5).all()
    assert (torch.stack(grad_branches) == 0.5).all()
    assert (grad_weights == 640).all()


def test_maps_may_lie_in_any_order():
    branches = [torch.randn(2, 6, 5, 7).permute(0, 2, 3, 1) for _ in range(3)]
    weights, grad = torch.randn(2, 3, 6).transpose(1, 2), torch.randn(2, 7, 5, 6).transpose(1, 2)
    for result, expected in zip(both_ways(branches, weights, grad), in_float64(branches, weights, grad), strict=True):
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_wider_dtype_is_returned():
    branches, weights = [torch.randn(1, 2, 2, 4).half() for _ in range(2)], torch.randn(1, 4, 2)
    out = gpu_fusion.weighted_sum(branches, weights, True)
    torch.testing.assert_close(out.double(), in_float64(branches, weights, out)[0], rtol=1e-6, atol=1e-6)
    assert out.dtype == torch.float32


def test_a_batch_of_no_images_is_fine():
    branches, weights = [torch.empty(0, 4, 4, 4)] * 2, torch.empty(0, 4, 2)
    results = both_ways(branches, weights, branches[0])
    assert [result.shape for result in results] == [branches[0].shape] * 3 + [weights.shape]
