"""The Active Token Mixer against a second statement of Eqs. (2) to (4), by deformable convolutions and einsum."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from atmviz.models.token_mixer import ActiveTokenMixer, OffsetLayer, sample_jointly
from atmviz.ops import sample_along

B, H, W, C, OFFSETS = 2, 5, 7, 12, 4  # no two sides equal, so a swapped axis shows


def make(dtype=torch.float64, **kwargs):
    """A mixer with its input and offsets; float64, so that the comparisons are sharp."""
    mixer = ActiveTokenMixer(C, **kwargs).to(dtype)
    x = torch.randn(B, H, W, C, dtype=dtype)
    return mixer, x, 2 * torch.randn(B, H, W, 2, kwargs.get("num_samples", 1) * OFFSETS, dtype=dtype)


def deform(x, horizontal, vertical, weight, bias):
    """The released code's branch: a deformable 1x1 convolution, one offset group per channel, channels (y, x, ...)."""
    yx = torch.stack((vertical, horizontal), dim=-1).repeat_interleave(C // OFFSETS, dim=3)  # [B, H, W, C, 2]
    yx = yx.reshape(B, H, W, 2 * C).permute(0, 3, 1, 2)
    return deform_conv2d(x.permute(0, 3, 1, 2), yx, weight[..., None, None], bias).permute(0, 2, 3, 1)


def embed(mixer, x, offset, branch):
    """x-hat of one branch, Eq. (2); with several samples the branch's layer embeds all of them."""
    if branch == "identity":
        return torch.einsum("bijc,dc->bijd", x, mixer.fc_identity.weight)
    layer = mixer.get_submodule(f"fc_{branch}")
    total = layer.bias
    for k, weight in enumerate(layer.weight.split(C, dim=1)):
        horizontal, vertical = offset[..., k * OFFSETS : (k + 1) * OFFSETS].unbind(3)
        horizontal = horizontal if branch != "height" else torch.zeros_like(horizontal)
        vertical = vertical if branch != "width" else torch.zeros_like(vertical)
        total = total + deform(x, horizontal, vertical, weight, None)
    return total


def project(mixer, tokens):
    return torch.einsum("bijc,dc->bijd", tokens, mixer.proj.weight) + mixer.proj.bias


def reference(mixer, x, offset, fusion="image", branches=("width", "height", "identity")):
    """Eqs. (2) to (4); the map's mean decides for all tokens ("image") or each token for itself ("token")."""
    embedded = torch.stack([embed(mixer, x, offset, branch) for branch in branches])  # [branches, B, H, W, C]
    query = embedded.sum(0)
    if fusion == "image":
        query = query.sum((1, 2), keepdim=True) / (H * W)
    first, second = mixer.fusion.fc1, mixer.fusion.fc2
    hidden = F.gelu(torch.einsum("bijc,dc->bijd", query, first.weight) + first.bias)
    logits = torch.einsum("bijc,dc->bijd", hidden, second.weight) + second.bias
    alpha = torch.exp(logits.reshape(*logits.shape[:3], C, len(branches)))
    alpha = alpha / alpha.sum(-1, keepdim=True)
    return project(mixer, torch.einsum("bijck,kbijc->bijc", alpha.expand(B, H, W, -1, -1), embedded))


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("fusion", ["image", "token"])
def test_mixer_computes_equations_2_to_4(fusion, num_samples):
    mixer, x, offset = make(fusion=fusion, num_samples=num_samples)
    torch.testing.assert_close(mixer(x, offset), reference(mixer, x, offset, fusion))


@pytest.mark.parametrize("offset_mode", ["decoupled", "joint"])
def test_fusion_of_the_paper_is_equation_4_as_printed(offset_mode):
    """Each query token alone: a C x C matrix per branch on the summed x-hat, a softmax per channel, Eq. (3)."""
    mixer, x, offset = make(fusion="paper", offset_mode=offset_mode)
    branches = ("joint", "identity") if offset_mode == "joint" else ("width", "height", "identity")
    x_hat = [embed(mixer, x, offset, branch) for branch in branches]
    matrices = mixer.fusion.weight.reshape(C, len(branches), C).unbind(1)  # W^W, W^H, W^I
    expected = torch.empty_like(x)
    for b in range(B):
        for i in range(H):
            for j in range(W):
                query = sum(tokens[b, i, j] for tokens in x_hat)
                logits = [matrix @ query for matrix in matrices]
                for c in range(C):
                    weights = [torch.exp(logit[c]) for logit in logits]
                    terms = [weight * tokens[b, i, j, c] for weight, tokens in zip(weights, x_hat, strict=True)]
                    expected[b, i, j, c] = sum(terms) / sum(weights)
    torch.testing.assert_close(mixer(x, offset), expected)


def test_fusion_of_the_paper_has_three_square_matrices_and_no_output_layer():
    fc = 3 * C * C + 2 * C  # FC^W and FC^H with bias, FC^I without
    assert sum(p.numel() for p in ActiveTokenMixer(C, fusion="paper").parameters()) == fc + 3 * C * C
    bottleneck = C * (C // 4) + C // 4 + 3 * C * (C // 4) + 3 * C
    for fusion in ("image", "token"):
        assert sum(p.numel() for p in ActiveTokenMixer(C, fusion=fusion).parameters()) == fc + bottleneck + C * C + C


@pytest.mark.parametrize("num_samples", [1, 3])
def test_joint_mode_takes_two_dimensional_samples(num_samples):
    mixer, x, offset = make(offset_mode="joint", num_samples=num_samples)
    torch.testing.assert_close(mixer(x, offset), reference(mixer, x, offset, branches=("joint", "identity")))


def test_gradients_match_those_of_the_equations():
    mixer, x, offset = make()
    inputs = [x.requires_grad_(), offset.requires_grad_(), *mixer.parameters()]
    weight = torch.randn_like(x)
    actual = torch.autograd.grad((weight * mixer(x, offset)).sum(), inputs)
    expected = torch.autograd.grad((weight * reference(mixer, x, offset)).sum(), inputs)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(("k", "branch"), list(enumerate(("width", "height", "identity"))))
def test_branches_are_in_the_order_width_height_identity(k, branch):
    mixer, x, offset = make()
    mixer.hook_fusion.register_forward_hook(lambda module, args, alpha: torch.eye(3, dtype=alpha.dtype)[k])
    assert mixer.branches[k] == branch
    torch.testing.assert_close(mixer(x, offset), project(mixer, embed(mixer, x, offset, branch)))


@pytest.mark.parametrize("offset_mode", ["decoupled", "joint"])
@pytest.mark.parametrize(("fusion", "grid"), [("image", (1, 1)), ("token", (H, W)), ("paper", (H, W))])
def test_fusion_weights_sum_to_one_for_each_image_or_token(fusion, grid, offset_mode):
    mixer, x, offset = make(fusion=fusion, offset_mode=offset_mode)
    seen = []
    mixer.hook_fusion.register_forward_hook(lambda module, args, alpha: seen.append(alpha))
    mixer(x, offset)
    (alpha,) = seen
    assert alpha.shape == (B, *grid, C, len(mixer.branches))
    assert (alpha > 0).all()
    assert alpha.std() > 0
    torch.testing.assert_close(alpha.sum(-1), torch.ones_like(alpha[..., 0]))


@pytest.mark.parametrize("num_samples", [1, 3])
def test_zero_mode_equals_offsets_of_zero(num_samples):
    mixer, x, offset = make(offset_mode="zero", num_samples=num_samples)
    decoupled = ActiveTokenMixer(C, num_samples=num_samples).double()
    decoupled.load_state_dict(mixer.state_dict())
    torch.testing.assert_close(mixer(x, None), decoupled(x, torch.zeros_like(offset)))


@pytest.mark.parametrize("fusion", ["image", "token", "paper"])
def test_in_zero_mode_tokens_meet_only_in_the_fusion_mean(fusion):
    mixer, x, _ = make(offset_mode="zero", fusion=fusion)
    changed = x.clone()
    changed[:, 2, 3] += 1
    others = torch.ones(H, W, dtype=torch.bool)
    others[2, 3] = False
    before, after = mixer(x, None), mixer(changed, None)
    assert not torch.allclose(before[:, 2, 3], after[:, 2, 3])
    assert torch.allclose(before[:, others], after[:, others], rtol=0, atol=1e-12) == (fusion != "image")

    alpha = torch.rand(C, 3, dtype=x.dtype)  # without the mean nothing is left between tokens
    mixer.hook_fusion.register_forward_hook(lambda *_: alpha)
    torch.testing.assert_close(mixer(x, None)[:, others], mixer(changed, None)[:, others], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("branch", "axis"), [("width", 0), ("height", 1)])
def test_joint_samples_with_one_still_axis_are_one_axis_samples(branch, axis):
    x, offset = torch.randn(B, H, W, C, dtype=torch.float64), 2 * torch.randn(B, H, W, 2, OFFSETS, dtype=torch.float64)
    offset[..., 1 - axis, :] = 0
    torch.testing.assert_close(sample_jointly(x, offset), sample_along(x, offset[..., axis, :], branch))


def test_joint_samples_with_whole_offsets_match_plain_indexing():
    x = torch.randn(B, H, W, C)
    offset = torch.zeros(B, H, W, 2, OFFSETS)
    offset[..., 0, :], offset[..., 1, :] = 2, -1  # two to the right, one up
    expected = torch.zeros_like(x)
    expected[:, 1:, : W - 2] = x[:, : H - 1, 2:]
    torch.testing.assert_close(sample_jointly(x, offset), expected)


@pytest.mark.parametrize("offset_mode", ["decoupled", "joint"])
@pytest.mark.parametrize("num_samples", [1, 3])
def test_offset_hook_sees_the_distinct_offsets(offset_mode, num_samples):
    mixer, x, offset = make(offset_mode=offset_mode, num_samples=num_samples)
    seen = []
    mixer.hook_offset.register_forward_hook(lambda module, args, output: seen.append(output))
    mixer(x, offset)
    assert [tuple(output.shape) for output in seen] == [(B, H, W, 2, num_samples * OFFSETS)]
    assert torch.equal(seen[0], offset)


def test_offset_hook_is_not_called_in_zero_mode():
    mixer, x, _ = make(offset_mode="zero")
    mixer.hook_offset.register_forward_hook(lambda *_: pytest.fail("called"))
    mixer(x, None)


@pytest.mark.parametrize("offset_mode", ["decoupled", "joint"])
def test_offsets_returned_by_a_hook_replace_the_layers_own(offset_mode):
    mixer, x, offset = make(offset_mode=offset_mode)
    before, replacement = mixer(x, offset), torch.randn_like(offset)
    handle = mixer.hook_offset.register_forward_hook(lambda *_: replacement)
    replaced = mixer(x, offset)
    handle.remove()
    assert not torch.allclose(replaced, before)
    assert torch.equal(replaced, mixer(x, replacement))
    assert torch.equal(mixer(x, offset), before)


def test_offset_layer_puts_horizontal_offsets_first():
    layer = OffsetLayer(C, OFFSETS)
    torch.nn.init.normal_(layer.norm.weight)
    x = torch.randn(B, H, W, C)
    scale = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt() * layer.norm.weight
    normed = (x - x.mean(-1, keepdim=True)) * scale
    for axis, rows in enumerate((slice(0, OFFSETS), slice(OFFSETS, 2 * OFFSETS))):
        expected = torch.einsum("bijc,oc->bijo", normed, layer.linear.weight[rows]) + layer.linear.bias[rows]
        torch.testing.assert_close(layer(x)[..., axis, :], expected, rtol=1e-4, atol=1e-5)
