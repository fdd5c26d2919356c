"""Pictures that several tests write and read."""

import numpy as np
import pytest


@pytest.fixture
def colors():
    """An upright picture whose every corner, row and column differs, in blocks that survive JPEG."""
    height, width = 48, 80
    rows, columns = np.mgrid[:height, :width] // 8
    return np.stack((40 * rows, 24 * columns, 255 - 20 * rows - 12 * columns), axis=-1).astype(np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(image, name="image.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save
