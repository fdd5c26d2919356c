import pytest
import torch


@pytest.fixture
def images():
    return torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    """Classes 0 to 4 of every pixel, with a band that counts nowhere."""
    labels = torch.randint(0, 5, (2, 96, 128), generator=torch.Generator().manual_seed(1))
    labels[:, :8] = 255
    return labels


@pytest.fixture
def targets():
    """Two objects in the first image, none in the second."""
    boxes = torch.tensor([[8.0, 8.0, 60.0, 70.0], [50.0, 20.0, 120.0, 90.0]])
    masks = torch.zeros(2, 96, 128, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    return [
        {"boxes": boxes, "labels": torch.tensor([0, 4]), "masks": masks},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": masks[:0]},
    ]
