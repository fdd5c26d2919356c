"""The weighted sum of the branches: one pass with the values and gradients of the formula."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from atmviz.ops import cpu, fusion, sampling, weighted_sum

needs_kernels = pytest.mark.skipif(cpu.library() is None, reason="no C++ compiler")


def formula(*inputs):
    *branches, weights = inputs
    return sum(weights[..., k] * branches[k] for k in range(len(branches)))


def ours(*inputs):
    return weighted_sum(inputs[:-1], inputs[-1])


def tensors(batch, height, width, channels, branches, dtype=torch.float32, per_token=False):
    grid = (height, width) if per_token else (1, 1)
    maps = [torch.randn(batch, height, width, channels).to(dtype) for _ in range(branches)]
    return [t.requires_grad_() for t in (*maps, torch.randn(batch, *grid, channels, branches).to(dtype))]


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("shape", [(2, 7, 9, 6, 3), (1, 16, 16, 24, 2), (3, 1, 1, 5, 3), (2, 8, 8, 33, 3)])
def test_values_and_gradients_are_those_of_the_formula(results, shape, per_token):
    inputs = tensors(*shape, per_token=per_token)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    grad = torch.randn(shape[:4])
    for one, other in zip(results(ours, inputs, grad), results(formula, exact, grad), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("with_kernels")
def test_gradients_pass_gradcheck():
    assert torch.autograd.gradcheck(ours, tensors(2, 3, 2, 4, 3, dtype=torch.float64))


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("weights_dtype", [torch.bfloat16, torch.float32])
def test_the_wider_dtype_is_returned(results, weights_dtype):
    *maps, weights = tensors(2, 5, 5, 8, 3, dtype=torch.bfloat16)
    inputs, grad = [*maps, weights.detach().to(weights_dtype).requires_grad_()], torch.randn(2, 5, 5, 8)
    for one, other in zip(results(ours, inputs, grad), results(formula, inputs, grad), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.1)  # dtypes are compared too


@pytest.mark.parametrize("shape", [(3,), (6, 3), (1, 1, 1, 6, 3), (2, 1, 1, 1, 3), (2, 1, 5, 6, 3)])
def test_weights_broadcast(shape):
    *maps, _ = tensors(2, 4, 5, 6, 3)
    weights = torch.randn(shape)
    torch.testing.assert_close(weighted_sum(maps, weights), formula(*maps, weights))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_what_is_not_real_is_added_by_the_formula(dtype):
    *maps, weights = ((4 * tensor.detach()).to(dtype) for tensor in tensors(2, 4, 5, 6, 3))
    assert torch.equal(weighted_sum(maps, weights), formula(*maps, weights))


@pytest.mark.parametrize(
    ("shapes", "weights", "message"),
    [
        ([(2, 3, 3, 4), (2, 3, 3, 5)], (2, 1, 1, 4, 2), r"branches \[\[2, 3, 3, 4\], \[2, 3, 3, 5\]\]"),
        ([(2, 3, 3, 4), (2, 3, 2, 4)], (2, 1, 1, 4, 2), "of one shape"),
        ([(3, 3, 4), (3, 3, 4)], (1, 1, 4, 2), r"\[B, H, W, C\]"),
        ([], (2, 1, 1, 4, 0), "one or more"),
        ([(2, 3, 3, 4), (2, 3, 3, 4)], (2, 1, 1, 4, 3), "for 2 branches"),
        ([(2, 3, 3, 4), (2, 3, 3, 4)], (), "for 2 branches"),
        ([(2, 3, 3, 4), (2, 3, 3, 4)], (9, 2, 1, 1, 4, 2), "for 2 branches"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, weights, message):
    with pytest.raises(ValueError, match=message):
        weighted_sum([torch.zeros(shape) for shape in shapes], torch.zeros(weights))


@pytest.mark.parametrize("elsewhere", [0, 2])
def test_tensors_on_two_devices_are_refused(elsewhere):
    inputs = [tensor.detach() for tensor in tensors(2, 4, 5, 6, 2)]
    inputs[elsewhere] = inputs[elsewhere].to("meta")
    with pytest.raises(ValueError, match="expected one device"):
        ours(*inputs)


@needs_kernels
def test_results_do_not_depend_on_the_number_of_threads(results):
    inputs, grad = tensors(1, 19, 21, 8, 3), torch.randn(1, 19, 21, 8)
    threads, by_threads = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        by_threads.append(results(ours, inputs, grad))
    torch.set_num_threads(threads)
    for other in by_threads[1:]:
        assert all(torch.equal(a, b) for a, b in zip(by_threads[0], other, strict=True))


@needs_kernels
def test_maps_may_lie_in_any_order():
    *maps, weights = (tensor.detach() for tensor in tensors(2, 5, 7, 8, 3))
    across = [tensor.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for tensor in maps]
    assert torch.equal(weighted_sum(across, weights), weighted_sum(maps, weights))


@needs_kernels
def test_an_empty_batch_has_empty_results(results):
    inputs = tensors(0, 4, 4, 6, 3)
    for result, like in zip(results(ours, inputs, torch.empty(0, 4, 4, 6))[1:], inputs, strict=True):
        assert result.shape == like.shape


@needs_kernels
@pytest.mark.filterwarnings("ignore")  # the checks use parts of PyTorch that are on their way out
@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_registration_keeps_pytorchs_rules(requires_grad):
    *maps, weights = (tensor.detach().requires_grad_(requires_grad) for tensor in tensors(2, 4, 5, 6, 3))
    torch.library.opcheck(fusion._weighted_sum, (maps, weights.flatten(1, 3), True))


def test_compiled_as_one_graph(results):
    torch.compiler.reset()
    inputs, grad = tensors(2, 4, 5, 6, 3), torch.randn(2, 4, 5, 6)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for one, other in zip(results(compiled, inputs, grad), results(formula, inputs, grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_cudas_autocast_keeps_the_maps_dtype(monkeypatch):
    """Counted on tensors without values, so that no GPU is needed; `torch.autocast` itself refuses without one."""
    monkeypatch.setattr(sampling, "has_kernels", lambda device: True)
    with FakeTensorMode():
        *maps, weights = (tensor.detach() for tensor in tensors(2, 5, 5, 8, 3))
        maps, weights = [torch.empty_like(m, device="cuda", dtype=torch.float16) for m in maps], weights.to("cuda")
        assert weighted_sum(maps, weights).dtype == torch.float32
        torch.set_autocast_enabled("cuda", True)
        try:
            assert weighted_sum(maps, weights).dtype == torch.float16
        finally:
            torch.set_autocast_enabled("cuda", False)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 56, 56, 64, 3), (3, 7, 7, 96, 2)])
def test_on_a_gpu_values_and_gradients_are_those_of_the_formula(results, dtype, shape):
    *maps, weights = tensors(*shape, dtype=dtype)
    inputs = [tensor.detach().cuda().requires_grad_() for tensor in (*maps, weights)]
    exact = [tensor.detach().double().requires_grad_() for tensor in (*maps, weights)]
    grad = torch.randn(shape[:4]).to(dtype)
    first = results(ours, inputs, grad.cuda())
    for result, expected in zip(first, results(formula, exact, grad), strict=True):
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(result.cpu().double(), expected, rtol=max(eps, 1e-5), atol=max(eps, 1e-4))
    for result, again in zip(first, results(ours, inputs, grad.cuda()), strict=True):
        assert torch.equal(result, again)
