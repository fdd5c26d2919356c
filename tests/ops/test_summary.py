"""The summary of offsets: both versions beside a count token by token."""

import numpy as np
import pytest
import torch

from atmviz.ops import cpu, summarize_offsets, summary

SHAPES = [(2, 5, 7, 2, 6), (1, 8, 3, 2, 19), (3, 1, 1, 2, 1), (0, 4, 4, 2, 3)]


@pytest.fixture(params=["kernel", "portable"])
def version(request, monkeypatch):
    """`summarize_offsets` as it runs with and without kernels."""
    if request.param == "portable":
        monkeypatch.setattr(summary.cpu, "library", lambda: None)
    elif cpu.library() is None:
        pytest.skip("no C++ compiler")
    return request.param


def count_one_by_one(offset):
    batch, height, width, _, _ = offset.shape
    n = max(height, width)
    distance, outside, counts = np.zeros((batch, 2)), np.zeros((batch, 2), int), np.zeros((2, 2 * n + 1), int)
    for (b, i, j, axis, _), value in np.ndenumerate(offset):
        nearest = round(float(value)) if abs(value) < 1e6 else np.sign(value) * 10**6  # half to even, as rint
        distance[b, axis] += abs(value)
        outside[b, axis] += not 0 <= (i if axis else j) + nearest < (height if axis else width)
        counts[axis, int(np.clip(nearest, -n, n)) + n] += 1
    return distance, outside, counts


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", [0.4, 3, 100])
def test_summary_equals_counting_one_by_one(version, shape, spread):
    offset = spread * torch.randn(shape)
    distance, outside, counts = (tensor.numpy() for tensor in summarize_offsets(offset))
    expected = count_one_by_one(offset.numpy())
    np.testing.assert_allclose(distance, expected[0], rtol=1e-6)
    assert np.array_equal(outside, expected[1])
    assert np.array_equal(counts, expected[2])
    assert counts.sum() == offset.numel()


def test_halves_and_huge_offsets_fall_as_rint_says(version):
    values = [-0.5, 0.5, 1.5, 2.5, -1.5, 1e30, -1e30, 3.0, float("inf"), -float("inf")]
    offset = torch.tensor(values).expand(1, 3, 2, 2, -1)
    for ours, theirs in zip(summarize_offsets(offset), count_one_by_one(offset.numpy()), strict=True):
        assert np.array_equal(ours.numpy(), theirs)


def test_a_nan_shows_in_the_sum_of_its_image_and_axis(version):
    offset = torch.zeros(2, 3, 3, 2, 4)
    offset[1, 2, 0, 1, 3] = float("nan")
    assert summarize_offsets(offset)[0].isnan().tolist() == [[False, False], [False, True]]


@pytest.mark.gpu
def test_on_a_gpu_the_summary_is_the_same():
    offset = 5 * torch.randn(2, 5, 7, 2, 6)
    for ours, theirs in zip(summarize_offsets(offset.cuda()), summarize_offsets(offset), strict=True):
        torch.testing.assert_close(ours.cpu().double(), theirs.double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 3, 3, 1, 4), torch.float32),
        ((1, 3, 3, 4), torch.float32),
        ((1, 3, 3, 2, 4), torch.int8),
        ((1, 3, 3, 2, 4), torch.float64),
    ],
)
def test_other_shapes_and_dtypes_never_reach_the_kernel(shape, dtype):
    with pytest.raises(ValueError, match=r"got offsets .* expected \[B, H, W, 2, O\]"):
        summarize_offsets(torch.zeros(shape, dtype=dtype))
