"""The images, geometry, query and labels of a recording, to record them again with other weights. Torch-free."""

import os
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from atmviz.errors import DatasetError, SettingsError, count, join_limited
from atmviz.recording.settings import RecordingSettings, kept_names
from atmviz.recording.store import Recording
from atmviz.sources import Source
from atmviz.sources.ade20k import Ade20kMasks
from atmviz.sources.coco import CocoInstances
from atmviz.sources.digits import Digits
from atmviz.sources.files import ImageFiles
from atmviz.sources.shapes import Shapes
from atmviz.sources.source import Split

_DRAWN = re.compile(r"(shapes|digits)/(train|val)/(\d{4,9})")
_LABELS: dict[str, type[Ade20kMasks | CocoInstances]] = {"ade20k": Ade20kMasks, "coco": CocoInstances}


def images_of(recording: Recording) -> Source:
    """Return the images that a recording lists, in its order.

    Images in files are read below the folder that the recording names, nowhere else.

    Raises:
        DatasetError: images are not there any more, or the recording names what no recording of atmviz does.
    """
    attrs = recording.attrs
    names, sampling = attrs["images"], attrs.get("sampling") or {}
    if attrs["dataset"] in ("shapes", "digits") and not attrs["image_root"]:
        return _drawn_images(recording)
    if unsafe := [name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]:
        raise DatasetError(f"{recording.path} names an image outside its folder ({unsafe[0]}): record its images anew")
    root = Path(attrs["image_root"])
    if missing := [name for name in names if not os.path.isfile(root / name)]:
        raise DatasetError(
            f"{len(missing)} of {count(len(names), 'image')} of {recording.path} are not in {root} "
            f"({join_limited(missing, 3)}): put them back, or record others"
        )
    labels = _LABELS.get(attrs["dataset"])
    return ImageFiles(attrs["dataset"], root, tuple(names), sampling=sampling, labels=labels(root) if labels else None)


def _drawn_images(recording: Recording) -> Source:
    names, sampling = recording.attrs["images"], recording.attrs.get("sampling") or {}
    parts = [_DRAWN.fullmatch(name) for name in names]
    splits = {part[2] for part in parts if part}
    numbers = tuple(int(part[3]) for part in parts if part)
    source: Source | None = None
    if len(numbers) == len(names) and len(splits) == 1:
        (split,) = splits
        known: Split = "train" if split == "train" else "val"
        if recording.attrs["dataset"] == "digits":
            source = Digits(known, recording.preprocessing.place(8, 8).resized, numbers, sampling)
        elif type(sampling.get("size")) is int and type(sampling.get("seed")) is int:
            source = Shapes(sampling["size"], len(names), known, sampling["seed"])
    if source is None or [source.name(index) for index in range(len(names))] != list(names):
        raise DatasetError(f"{recording.path} holds no whole drawn dataset: record its images anew")
    return source


def settings_of_again(recording: Recording, settings: RecordingSettings) -> RecordingSettings:
    """Return settings with the query, labels and kept quantities of a recording.

    Raises:
        SettingsError: settings that the recording has fixed.
    """
    usual = RecordingSettings()
    for name in ("size", "fit", "query", "labels"):
        if getattr(settings, name) != getattr(usual, name):
            raise SettingsError(f"got {name} and a recording to repeat, which has fixed it: leave one out")
    attrs = recording.attrs
    kept = {"moments": "moments", "positions": "positions", "maps": "map"}
    keep = settings.keep or kept_names([name for name, quantity in kept.items() if quantity in recording.quantities])
    labels = attrs.get("masks") or ("auto" if attrs.get("labels") else None)
    return replace(settings, query=attrs["query"], labels=labels, keep=keep)
