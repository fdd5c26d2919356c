"""One-axis sampling against torchvision's deformable convolution and against plain indexing."""

from itertools import product

import pytest
import torch
from torchvision.ops import deform_conv2d

from atmviz.ops import sample_along, sampling
from atmviz.ops.sampling import kernels_take

BRANCHES = ("width", "height")
SHAPE = (2, 5, 7, 6)  # B, H, W, C: no two sides equal, so a swapped axis shows


def deform_reference(x, offset, branch):
    """`sample_along` by the released code's operator: a depthwise 1x1 identity kernel, offsets in the order y, x."""
    channels = x.shape[3]
    offset = offset.repeat_interleave(channels // offset.shape[3], dim=3).permute(0, 3, 1, 2)  # [B, C, H, W]
    still = torch.zeros_like(offset)
    yx = torch.stack((offset, still) if branch == "height" else (still, offset), dim=2).flatten(1, 2)
    return deform_conv2d(x.permute(0, 3, 1, 2), yx, x.new_ones(channels, 1, 1, 1)).permute(0, 2, 3, 1)


def index_reference(x, offset, branch):
    """`sample_along` for whole offsets: one element at a time, zero outside the map."""
    batch, height, width, channels = x.shape
    out = torch.zeros_like(x)
    for b, i, j, c in product(range(batch), range(height), range(width), range(channels)):
        shift = int(offset[b, i, j, c * offset.shape[3] // channels])
        row, column = (i + shift, j) if branch == "height" else (i, j + shift)
        if 0 <= row < height and 0 <= column < width:
            out[b, i, j, c] = x[b, row, column, c]
    return out


def value_and_grads(function, x, offset, branch):
    """Output and gradients of input and offset, for one fixed gradient of the output."""
    x, offset = x.detach().requires_grad_(), offset.detach().requires_grad_()
    out = function(x, offset, branch)
    grad = torch.linspace(-1, 2, out.numel(), dtype=out.dtype, device=out.device).view(out.shape)
    return out, *torch.autograd.grad(out, (x, offset), grad)


def assert_equals_deform_conv(x, offset, branch, **tolerance):
    actual, expected = (value_and_grads(f, x, offset, branch) for f in (sample_along, deform_reference))
    for name, a, e in zip(("output", "grad of input", "grad of offset"), actual, expected, strict=True):
        torch.testing.assert_close(a, e, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.3, 3, 50])
def test_random_offsets_match_deform_conv_forward_and_backward(branch, dtype, spread):
    x = torch.randn(SHAPE, dtype=dtype)
    assert_equals_deform_conv(x, spread * torch.randn(SHAPE, dtype=dtype), branch)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_offsets_match_deform_conv_and_plain_indexing(branch, dtype):
    x = torch.randn(SHAPE, dtype=dtype)
    offset = torch.randint(-8, 9, (*SHAPE[:3], 3)).to(dtype)
    assert_equals_deform_conv(x, offset, branch)
    assert torch.equal(sample_along(x, offset, branch), index_reference(x, offset, branch))


@pytest.mark.parametrize(("branch", "dim"), [("width", 2), ("height", 1)])
def test_positive_offsets_fetch_from_the_right_or_below(branch, dim):
    x = torch.randn(SHAPE)
    out = sample_along(x, torch.ones(SHAPE), branch)
    assert torch.equal(out.narrow(dim, 0, SHAPE[dim] - 1), x.narrow(dim, 1, SHAPE[dim] - 1))
    assert not out.select(dim, -1).any()


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("position", [-1.5, -1, -0.5, 0, 0.5, "n-1.5", "n-1", "n-0.5", "n", "n+0.5"])
def test_positions_at_the_border_match_deform_conv(branch, position):
    x = torch.randn(SHAPE, dtype=torch.float64)
    axis = BRANCHES.index(branch)
    size = (SHAPE[2], SHAPE[1])[axis]
    target = size + float(position[1:] or 0) if isinstance(position, str) else position
    own = torch.arange(size, dtype=x.dtype).view((1, 1, -1, 1) if branch == "width" else (1, -1, 1, 1))
    offset = (target - own).expand(SHAPE)
    assert_equals_deform_conv(x, offset, branch)
    if target <= -1 or target >= size:
        assert not sample_along(x, offset, branch).any()


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [100, 6e4, 1e30, float("inf")])
def test_offsets_far_outside_read_zero_and_keep_gradients_finite(branch, dtype, distance):
    offset = torch.full(SHAPE, distance).to(dtype)
    offset[..., ::2] *= -1
    for result in value_and_grads(sample_along, torch.randn(SHAPE), offset, branch):
        assert torch.equal(result, torch.zeros_like(result))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("height_width", [(1, 1), (1, 6), (6, 1), (2, 2)])
def test_narrow_maps_match_deform_conv(branch, height_width):
    shape = (2, *height_width, 4)
    x, offset = torch.randn(shape, dtype=torch.float64), 1.5 * torch.randn(shape, dtype=torch.float64)
    assert_equals_deform_conv(x, offset, branch)


@pytest.mark.parametrize("branch", BRANCHES)
def test_memory_layout_does_not_change_the_result(branch):
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64).permute(0, 2, 3, 1)  # NCHW in memory
    offset = torch.randn(2, 7, 5, 12, dtype=torch.float64).transpose(1, 2)[..., ::2]
    assert not x.is_contiguous()
    assert not offset.is_contiguous()
    expected = value_and_grads(sample_along, x.contiguous(), offset.contiguous(), branch)
    torch.testing.assert_close(value_and_grads(sample_along, x, offset, branch), expected)
    assert_equals_deform_conv(x, offset, branch)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("num_offsets", [1, 2, 3, 4, 6, 12])
def test_neighboring_channels_share_an_offset(branch, num_offsets):
    x = torch.randn(2, 4, 5, 12, dtype=torch.float64)
    offset = 2 * torch.randn(2, 4, 5, num_offsets, dtype=torch.float64)
    out, grad_x, grad_offset = value_and_grads(sample_along, x, offset, branch)
    repeated = offset.repeat_interleave(12 // num_offsets, dim=3)
    expected, expected_grad_x, grad_repeated = value_and_grads(sample_along, x, repeated, branch)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad_x, expected_grad_x)
    torch.testing.assert_close(grad_offset, grad_repeated.unflatten(3, (num_offsets, -1)).sum(-1))


def largest_saved(x, offset, branch):
    """Elements in the largest storage kept for the backward pass, among positions, weights and indices."""
    sizes = []

    def pack(tensor):
        if tensor.dtype != x.dtype:
            sizes.append(tensor.untyped_storage().nbytes() // tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sample_along(x, offset, branch)
    return max(sizes)


@pytest.mark.parametrize("branch", BRANCHES)
def test_shared_offsets_are_not_repeated_in_memory(branch):
    x = torch.randn(2, 4, 5, 12, requires_grad=True)
    offset = torch.randn(2, 4, 5, 3, dtype=torch.float64, requires_grad=True)  # a dtype that tells them from features
    assert largest_saved(x, offset, branch) == offset.numel()
    assert largest_saved(x, offset.repeat_interleave(4, dim=3), branch) == x.numel()  # what the line above would miss


@pytest.mark.parametrize("branch", BRANCHES)
def test_gradients_match_finite_differences(branch):
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    whole = torch.randint(-3, 3, (1, 3, 4, 2))
    offset = (whole + 0.1 + 0.8 * torch.rand(whole.shape, dtype=torch.float64)).requires_grad_()  # away from the kinks
    assert torch.autograd.gradcheck(lambda x, offset: sample_along(x, offset, branch), (x, offset))


@pytest.mark.parametrize("branch", BRANCHES)
def test_only_what_learns_gets_a_gradient(branch, monkeypatch):
    x, offset, grad = torch.randn(SHAPE), torch.randn(*SHAPE[:3], 3), torch.randn(SHAPE)
    asked, backward = [], sampling._sample_backward
    monkeypatch.setattr(sampling, "_sample_backward", lambda *args: asked.append(args[-2:]) or backward(*args))
    both = [tensor.clone().requires_grad_() for tensor in (x, offset)]
    gradients = torch.autograd.grad(sample_along(*both, branch), both, grad)
    for learns in range(2):
        inputs = [tensor.clone().requires_grad_(i == learns) for i, tensor in enumerate((x, offset))]
        (alone,) = torch.autograd.grad(sample_along(*inputs, branch), inputs[learns], grad)
        assert torch.equal(alone, gradients[learns])
    if kernels_take(x, offset):
        assert asked == [(True, True), (True, False), (False, True)]


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("offset_dtype", [torch.float32, "same"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_are_rounded_only_once(branch, offset_dtype, dtype):
    offset_dtype = dtype if offset_dtype == "same" else offset_dtype
    x, offset = torch.randn(SHAPE).to(dtype), (3 * torch.randn(SHAPE)).to(offset_dtype)
    out = sample_along(x, offset, branch)
    assert out.dtype == dtype
    exact = deform_reference(x.double(), offset.double(), branch)
    # Half a unit in the last place for the result, and what float32 loses in the sum of two products.
    torch.testing.assert_close(out.double(), exact, rtol=torch.finfo(dtype).eps / 2, atol=2e-6)


def test_bfloat16_features_keep_exact_positions_on_a_wide_map():
    x = torch.randn(1, 1, 300, 2).bfloat16()
    offset = torch.randint(-299, 300, x.shape).float()  # bfloat16 cannot tell 257 from 256
    assert torch.equal(sample_along(x, offset, "width"), index_reference(x, offset, "width"))


@pytest.mark.parametrize("branch", BRANCHES)
def test_autocast_does_not_change_the_result(branch):
    x, offset = torch.randn(SHAPE), 3 * torch.randn(SHAPE)
    expected = value_and_grads(sample_along, x, offset, branch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = value_and_grads(sample_along, x, offset, branch)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch 2.11's compiler uses its own deprecated parts
def test_compiled_without_graph_breaks_equals_eager():
    x, offset = torch.randn(2, 4, 5, 6), 2 * torch.randn(2, 4, 5, 3)
    torch.compiler.reset()
    compiled = torch.compile(sample_along, fullgraph=True)
    for branch in BRANCHES:
        actual, expected = (value_and_grads(f, x, offset, branch) for f in (compiled, sample_along))
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("x_shape", "offset_shape", "message"),
    [
        ((4, 5, 6), (4, 5, 6), r"got features \[4, 5, 6\].*expected \[B, H, W, C\]"),
        ((2, 4, 5, 6), (2, 4, 5), r"offsets \[2, 4, 5\], expected .*\[B, H, W, O\]"),
        ((2, 4, 5, 6), (1, 4, 5, 6), r"got features \[2, 4, 5, 6\] and offsets \[1, 4, 5, 6\], expected"),
        ((2, 4, 5, 6), (2, 5, 4, 6), r"got features \[2, 4, 5, 6\] and offsets \[2, 5, 4, 6\], expected"),
        ((2, 4, 5, 6), (2, 4, 5, 4), "got 4 offsets for 6 channels, expected a divisor"),
        ((2, 4, 5, 6), (2, 4, 5, 0), "got 0 offsets for 6 channels, expected a divisor"),
        ((2, 4, 5, 6), (2, 4, 5, 12), "got 12 offsets for 6 channels, expected a divisor"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x_shape, offset_shape, message):
    with pytest.raises(ValueError, match=message):
        sample_along(torch.zeros(x_shape), torch.zeros(offset_shape), "width")


@pytest.mark.parametrize(("x_dtype", "offset_dtype"), [(torch.int64, torch.float32), (torch.complex64, torch.float32)])
def test_features_and_offsets_are_real(x_dtype, offset_dtype):
    for dtypes in ((x_dtype, offset_dtype), (offset_dtype, x_dtype)):
        x, offset = (torch.zeros(SHAPE, dtype=dtype) for dtype in dtypes)
        with pytest.raises(ValueError, match="expected floating dtypes"):
            sample_along(x, offset, "width")


@pytest.mark.parametrize("devices", [("cpu", "meta"), ("meta", "cpu")])
def test_tensors_on_two_devices_are_refused(devices):
    x, offset = (torch.zeros(SHAPE, device=device) for device in devices)
    with pytest.raises(ValueError, match=f"got tensors on {devices[0]} and {devices[1]}, expected one device"):
        sample_along(x, offset, "width")


def test_an_unknown_branch_is_refused():
    with pytest.raises(ValueError, match="got branch 'depth', expected one of height, width"):
        sample_along(torch.zeros(SHAPE), torch.zeros(SHAPE), "depth")


@pytest.mark.gpu
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"),
    [
        (torch.float64, 1e-12, 1e-12),
        (torch.float32, 1e-5, 1e-5),
        # The gradient of the input adds up several values in half precision.
        (torch.float16, 4e-3, 4e-3),
        (torch.bfloat16, 3e-2, 3e-2),
    ],
)
def test_cuda_equals_float64_on_the_cpu(branch, dtype, rtol, atol):
    x = torch.randn(SHAPE).to(dtype)
    offset = (2 * torch.randn(*SHAPE[:3], 3)).to(torch.promote_types(dtype, torch.float32))
    actual = value_and_grads(sample_along, x.cuda(), offset.cuda(), branch)
    expected = value_and_grads(sample_along, x.double(), offset.double(), branch)
    for a, e in zip(actual, expected, strict=True):
        assert a.is_cuda
        torch.testing.assert_close(a.cpu().double(), e, rtol=rtol, atol=atol)
