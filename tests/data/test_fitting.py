"""Images become network inputs; what is no image of the one kind is refused."""

import numpy as np
import pytest

from atmviz.data.fitting import fit_image
from atmviz.errors import DatasetError
from atmviz.geometry import Preprocessing


def test_an_image_of_the_networks_size_is_seen_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    seen, placement = fit_image(image, Preprocessing((64, 96), "squash"))
    np.testing.assert_array_equal(seen, image)
    assert (placement.image, placement.origin) == ((64, 96), (0, 0))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((64, 64), "uint8"), ((64, 64, 4), "uint8"), ((64, 64, 3), "float32"), ((0, 0, 3), "uint8")]
)
def test_arrays_of_another_kind_are_refused(shape, dtype):
    with pytest.raises(DatasetError, match=rf"{dtype}, expected \[H, W, 3\] of uint8"):
        fit_image(np.zeros(shape, dtype), Preprocessing((64, 64)))
