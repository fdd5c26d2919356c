"""Settings of an evaluation. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atmviz.architecture import CROP_RANGE, RANGES
from atmviz.observe.site import Intervention
from atmviz.settings import Settings, setting

_DATA, _MODEL = "Data", "Model"


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """What to evaluate a checkpoint on, and how.

    Raises:
        SettingsError: a value of another type, of none of the choices or out of range.
    """

    dataset: str | None = setting(
        None, "imagenet, folder, shapes, digits, a timm reader, ade20k or coco. Default: as in training.", _DATA
    )
    data_dir: str | Path | None = setting(  # noqa: RUF009
        None, "Dataset folder; default: $ATMVIZ_DATA, else ./data.", _DATA, flags=("--data-dir", "--data-path")
    )
    split: Literal["val", "train"] = setting("val", "Part of the dataset.", _DATA)
    limit: int | None = setting(None, "Evaluate only the first images.", _DATA, 1)
    size: int | None = setting(
        None,
        "Input size in px (crop side, or shorter side for segmentation and detection). Default: as in training.",
        _DATA,
        *RANGES["image_size"],
    )
    crop_pct: float | None = setting(
        None, "Classification: fraction of the resized image to crop. Default: as in training.", _DATA, *CROP_RANGE
    )
    multi_scale: bool = setting(
        False, "Segmentation: average over 0.5 to 1.75 times the size, each also mirrored.", _DATA
    )

    weights: Literal["ema", "model"] | None = setting(
        None, "Which weights; averaged ones if the file has them.", _MODEL
    )
    offsets: Intervention = setting(  # noqa: RUF009
        "learned", "zero: read the query token itself; shuffle: use another token's offsets.", _MODEL
    )
    seed: int = setting(0, "Seed of the shuffled positions.", _MODEL, 0)
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps.", _MODEL)
    batch_size: int | None = setting(None, "Images per forward pass.", _MODEL, 1, flags=("--batch-size", "-b"))
    workers: int | None = setting(None, "Processes that decode images.", _MODEL, 0, flags=("--workers", "-j"))
    confusion: bool = setting(False, "Count which class is taken for which (not for detection).", _MODEL)
