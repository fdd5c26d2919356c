"""Photographs and outlines of a page."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from atmviz.explorer.photos import jpeg_of, outlines_of, photos_of


@pytest.mark.parametrize("size", [(40, 30), (3000, 2000), (20, 6000)])
def test_photographs_are_small_and_keep_their_shape(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)  # noise is what compresses worst
    head, _, content = jpeg_of(image).partition(",")
    jpeg = base64.b64decode(content)
    assert head == "data:image/jpeg;base64"
    assert len(jpeg) <= 100_000
    width, height = Image.open(io.BytesIO(jpeg)).size
    assert width / height == pytest.approx(size[1] / size[0], rel=0.2)


def test_outlines_go_around_the_largest_objects_and_their_holes():
    instances = np.zeros((40, 40), np.int32)
    instances[5:25, 5:25] = 2
    instances[10:20, 10:20] = 0
    instances[30:38, 30:38] = 1
    outlines = outlines_of(instances)
    corners = [set(zip(line[::2], line[1::2], strict=True)) for line in outlines]
    assert {(5, 5), (5, 24), (24, 24), (24, 5)} in corners[:2]
    assert {(30, 30), (30, 37), (37, 37), (37, 30)} == corners[-1]
    assert len(outlines) == 3


def test_scenes_have_the_outlines_of_their_objects_and_photographs_have_none(labeled, recording):
    said = []

    class Said:
        message = staticmethod(said.append)

    assert all(photo["outlines"] for photo in photos_of(labeled, labeled.images, Said))
    photos = photos_of(recording, recording.images[:1], Said)
    assert [photo["image"] for photo in photos] == [[512, 512]]
    assert photos[0]["outlines"] == []
    assert said == []
