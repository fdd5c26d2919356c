"""Settings of an evaluation. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atmviz.architecture import CROP_RANGE, RANGES
from atmviz.settings import Settings, read_device, settings_under
from atmviz.sources.datasets import require_dataset

_data, _model = settings_under("Data"), settings_under("Model")


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """What to evaluate a checkpoint on, and how.

    Raises:
        SettingsError: a value of another type, of none of the choices or out of range; or no dataset has this name.
    """

    dataset: str | None = _data(
        None, "imagenet, folder, shapes, digits, a timm reader, ade20k or coco. Default: as in training."
    )
    data_dir: str | Path | None = _data(  # noqa: RUF009
        None, "Dataset folder; default: $ATMVIZ_DATA, else ./data.", flags=("--data-dir", "--data-path")
    )
    split: Literal["val", "train"] = _data("val", "Part of the dataset.")
    limit: int | None = _data(None, "Evaluate only the first images; by default all.", 1)
    size: int | None = _data(
        None,
        "Input size in px (crop side, or shorter side for segmentation and detection). Default: as in training.",
        *RANGES["image_size"],
    )
    crop_pct: float | None = _data(
        None, "Classification: fraction of the resized image to crop. Default: as in training.", *CROP_RANGE
    )
    multi_scale: bool = _data(False, "Segmentation: average over 0.5 to 1.75 times the size, each also mirrored.")

    weights: Literal["ema", "model"] | None = _model(None, "ema (averaged) or model; by default ema if it is there.")
    offsets: Literal["learned", "zero", "shuffle"] = _model(
        "learned", "zero: read the query token itself; shuffle: use another token's offsets."
    )
    seed: int = _model(0, "Seed of all random draws.", 0)
    device: str = _model("auto", "auto, cpu, cuda, cuda:N or mps.", read=read_device)
    batch_size: int | None = _model(
        None,
        "Images per forward pass; by default 64 (classification), 8 (segmentation), 4 (detection).",
        1,
        flags=("--batch-size", "-b"),
    )
    workers: int | None = _model(
        None, "Processes that decode images; by default one a core, at most 4.", 0, flags=("--workers", "-j")
    )
    confusion: bool = _model(False, "Count which class is taken for which (not for detection).")
    per_class: bool = _model(False, "Also show the top-1, IoU and accuracy, or AP of every class.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is not None:
            require_dataset(self.dataset)
