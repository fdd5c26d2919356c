"""Labels lie where the pixels of their image do, whatever the fit."""

import numpy as np
import pytest

from atmviz.data.fitting import fit_image
from atmviz.geometry import Preprocessing
from atmviz.recording.labels import fit_labels
from atmviz.sources.source import Object, Truth

BOX = (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("shape", [(96, 160), (160, 96), (200, 200), (66, 94)])
def test_labels_follow_the_pixels_through_crop_and_squash(fit, shape):
    """A picture of its own labels, blown up: away from edges, the fitted pixels say which label is right."""
    draw = np.random.default_rng(0)
    coarse = draw.permutation(np.arange(1, 13)).reshape(3, 4)
    rows, columns = (np.arange(side) * count // side for side, count in zip(shape, coarse.shape, strict=True))
    instances = coarse[rows[:, None], columns]
    image = np.repeat((instances * 20).astype(np.uint8)[..., None], 3, axis=2)
    pixels, placement = fit_image(image, Preprocessing((64, 96), fit=fit))
    fitted = fit_labels(Truth(instances=instances, objects=[Object(k, BOX) for k in range(1, 13)]), placement)
    label_of = np.r_[0, fitted.objects[:, 0]]
    shown = label_of[fitted.instances] * 20
    assert (np.abs(shown - pixels[..., 0]) < 4).mean() > 0.7  # the rest are the blurred edges of twelve boxes
    inside = np.abs(np.gradient(pixels[..., 0].astype(float))).sum(0) == 0
    assert (np.abs(shown - pixels[..., 0])[inside] < 4).mean() > 0.98


def test_objects_are_numbered_by_the_area_that_the_network_sees():
    instances = np.zeros((64, 128), int)
    instances[:, :60] = 1  # most of it is cut away
    instances[10:40, 60:80] = 2
    instances[0:2, 126:] = 3  # outside the crop
    things = [Object(7, BOX, length_px=30.0, elongation=2.0, angle=0.5), Object(8, BOX), Object(9, BOX)]
    placement = Preprocessing((64, 64), crop_pct=1.0).place(64, 128)
    fitted = fit_labels(Truth(instances=instances, objects=things), placement)
    assert placement.origin == (0, 32)
    assert fitted.objects[:3, :2].tolist() == [[7, 64 * 28], [8, 600], [-1, 0]]
    assert fitted.objects[0, 4:].tolist() == [30, 2, 0.5]
    assert fitted.objects[1, 2:4] == pytest.approx([np.arange(20).std(), np.arange(30).std()])
    assert np.unique(fitted.instances).tolist() == [0, 1, 2]


def test_classes_without_objects_become_connected_regions():
    segments = np.full((64, 64), 255, np.uint8)
    segments[:10, :10] = 3
    segments[10:12, 10:12] = 3  # touches by a corner
    segments[40:, 40:] = 3
    segments[20:30, :5] = 0
    fitted = fit_labels(Truth(segments=segments), Preprocessing((64, 64), crop_pct=1.0).place(64, 64))
    assert fitted.objects[:4, :2].tolist() == [[3, 576], [3, 104], [0, 50], [-1, 0]]


def test_more_objects_than_rows_keep_their_labels_and_the_largest_have_rows():
    instances = np.arange(100).reshape(10, 10).repeat(8, 0).repeat(8, 1)
    placement = Preprocessing((80, 80), crop_pct=1.0).place(80, 80)
    fitted = fit_labels(Truth(instances=instances, objects=[Object(k, BOX) for k in range(99)]), placement)
    assert len(np.unique(fitted.instances)) == 100
    assert (fitted.objects[:, 0] >= 0).all()


def test_of_an_image_without_truth_nothing_is_labeled():
    fitted = fit_labels(None, Preprocessing((64, 64)).place(80, 80))
    assert not fitted.instances.any()
    assert (fitted.objects[:, 0] == -1).all()
