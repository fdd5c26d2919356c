"""The channel MLP by parts: the values and gradients of plain layers, whatever the number of tokens."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from atmviz.ops import channel_mlp, cpu, mlp

needs_kernels = pytest.mark.skipif(cpu.library() is None, reason="no C++ compiler")


def plain(x, weight1, bias1, weight2, bias2):
    return F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)


def tensors(*shape, dtype=torch.float32, channels=6, hidden=24):
    shapes = (shape, (hidden, channels), (hidden,), (channels, hidden), (channels,))
    return [torch.randn(s).to(dtype).requires_grad_() for s in shapes]


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("tokens", [0, 1, 7, 8, 9, 40])
def test_values_and_gradients_are_those_of_plain_layers(results, tokens, monkeypatch):
    monkeypatch.setattr(mlp, "_TOKENS_TOGETHER", 8)
    inputs = tensors(tokens, 6)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    grad = torch.randn(tokens, 6)
    for ours, theirs in zip(results(channel_mlp, inputs, grad), results(plain, exact, grad), strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=2e-5)


@pytest.mark.usefixtures("with_kernels")
def test_gradients_pass_gradcheck():
    assert torch.autograd.gradcheck(channel_mlp, tensors(2, 3, 6, dtype=torch.float64))


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_keeps_pytorchs_dtypes_and_values(results, autocast):
    inputs, grad = tensors(5, 6, dtype=torch.float32 if autocast else torch.bfloat16), torch.randn(5, 6)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        pairs = list(zip(results(channel_mlp, inputs, grad), results(plain, inputs, grad), strict=True))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.1)  # dtypes are compared too


def test_the_second_layer_may_give_another_number_of_channels(results):
    x, weight1, bias1, _, _ = tensors(5, 6)
    inputs = [x, weight1, bias1, torch.randn(4, 24, requires_grad=True), torch.randn(4, requires_grad=True)]
    grad = torch.randn(5, 4)
    for ours, theirs in zip(results(channel_mlp, inputs, grad), results(plain, inputs, grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_any_number_of_tokens_will_do(shape):
    inputs = tensors(*shape, 6)
    torch.testing.assert_close(channel_mlp(*inputs), plain(*inputs))


@pytest.mark.parametrize("elsewhere", range(5))
def test_tensors_on_two_devices_are_refused(elsewhere):
    inputs = tensors(5, 6)
    inputs[elsewhere] = inputs[elsewhere].to("meta")
    with pytest.raises(ValueError, match="expected one device"):
        channel_mlp(*inputs)


def test_strides_do_not_matter():
    x, *weights = tensors(4, 5, 6)
    across = x.detach().transpose(0, 1)
    torch.testing.assert_close(channel_mlp(across, *weights), plain(across, *weights))


def test_hidden_values_are_kept_for_learning_alone():
    inputs = tensors(8, 6)
    assert mlp._mlp(*inputs, True)[1].shape == (8, 24)
    assert mlp._mlp(*inputs, False)[1].numel() == 0
    with torch.no_grad():
        assert torch.equal(channel_mlp(*inputs), mlp._mlp(*inputs, False)[0])


@needs_kernels
def test_gelu_is_as_exact_as_pytorchs():
    x = torch.cat([torch.linspace(-14, 14, 10001), torch.tensor([-1e30, -90.0, 0.0, 90.0])])
    grad, out = torch.ones_like(x), torch.empty_like(x)
    cpu.gelu_with_gradient(x, grad, out)
    exact = x.double().requires_grad_()
    value = F.gelu(exact)
    (slope,) = torch.autograd.grad(value.sum(), exact)
    torch.testing.assert_close(out.double(), value.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grad.double(), slope, rtol=1e-6, atol=1e-6)


@needs_kernels
def test_a_nan_stays_visible():
    x, grad, out = torch.tensor([0.5, float("nan")]), torch.ones(2), torch.empty(2)
    cpu.gelu_with_gradient(x, grad, out)
    assert out.isnan().tolist() == grad.isnan().tolist() == [False, True]


@pytest.mark.filterwarnings("ignore")  # the checks use parts of PyTorch that are on their way out
@pytest.mark.parametrize("keep", [False, True])
def test_the_registration_keeps_pytorchs_rules(keep):
    inputs = [tensor.requires_grad_(keep) for tensor in tensors(5, 6)]
    torch.library.opcheck(mlp._mlp, (*inputs, keep), test_utils=("test_schema", "test_faketensor"))
    hidden = torch.randn(5, 24)
    detached = [tensor.detach() for tensor in inputs]
    torch.library.opcheck(mlp._mlp_backward, (torch.randn(5, 6), detached[0], hidden, detached[1], detached[3]))


def test_pytorchs_counter_sees_the_products():
    def count(function):
        inputs = tensors(10, 6)
        with FlopCounterMode(display=False) as counter:
            function(*inputs).sum().backward()
        return counter.get_total_flops()

    assert count(channel_mlp) == count(plain) == 3 * 2 * (2 * 10 * 6 * 24)


def test_compiled_as_one_graph(results):
    torch.compiler.reset()
    inputs, grad = tensors(2, 5, 6), torch.randn(2, 5, 6)
    compiled = torch.compile(channel_mlp, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(results(compiled, inputs, grad), results(plain, inputs, grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


def test_compiled_for_a_gpu_the_layers_are_plain(monkeypatch):
    """Inductor fuses what is around them; counted on tensors without values, so that no GPU is needed."""
    called, fused = [], mlp._mlp
    monkeypatch.setattr(mlp, "_mlp", lambda *args: called.append(args) or fused(*args))
    with FakeTensorMode():
        inputs = [tensor.detach().to("cuda") for tensor in tensors(5, 6)]
        assert channel_mlp(*inputs).shape == (5, 6)
        assert len(called) == 1
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert channel_mlp(*inputs).shape == (5, 6)
        assert len(called) == 1


@pytest.mark.gpu
@pytest.mark.parametrize(("autocast", "tolerance"), [(False, 1e-9), (True, 0.05)])
def test_cuda_equals_the_cpu(results, autocast, tolerance):
    inputs, grad = tensors(50, 6, dtype=torch.float64), torch.randn(50, 6)
    expected = results(plain, inputs, grad)
    width = torch.float32 if autocast else torch.float64
    on_cuda = [tensor.detach().to("cuda", width).requires_grad_() for tensor in inputs]
    with torch.autocast("cuda", torch.float16, enabled=autocast):
        on_gpu = results(channel_mlp, on_cuda, grad.cuda())
    for ours, theirs in zip(on_gpu, expected, strict=True):
        torch.testing.assert_close(ours.cpu().double(), theirs, rtol=tolerance, atol=tolerance)
