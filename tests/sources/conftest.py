"""What several tests share: pictures, empty files, the message of a refusal."""

import numpy as np
import pytest

from atmviz.errors import DatasetError


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


@pytest.fixture
def touch():
    """`touch(folder, "a/b.png", ...)` makes empty files."""

    def touch(root, *names):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()

    return touch


@pytest.fixture
def refusal():
    """`refusal(call, ...)` is the message of a call that must be refused: one line."""

    def refusal(call, *arguments, **options):
        with pytest.raises(DatasetError) as caught:
            call(*arguments, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refusal
