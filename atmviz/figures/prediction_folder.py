"""Draws predictions into a folder, one file for each image."""

from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from atmviz.events import QUIET, Events
from atmviz.figures.predictions import draw_detection, draw_segmentation
from atmviz.files import file_name

if TYPE_CHECKING:
    from atmviz.training.evaluators.base import Prediction


class PredictionFolder:
    """Draws the first predictions it is called with, as `folder/IMAGE NAME.png`.

    Args:
        folder: Where to draw; no image name leads out of it.
        limit: Largest number of images to draw.
        events: Receives one line when the limit is reached.
    """

    def __init__(self, folder: Path, limit: int = 24, events: Events = QUIET) -> None:
        self.folder, self.limit, self.events = folder, limit, events
        self.drawn: list[Path] = []

    def __call__(self, prediction: "Prediction") -> None:
        """Draw an image's labels and prediction side by side."""
        if len(self.drawn) >= self.limit:
            return
        draw = draw_detection if isinstance(prediction.predicted, dict) else draw_segmentation
        path = self._path(prediction.name)
        arrays = prediction.image, prediction.truth, prediction.predicted
        self.drawn.append(draw(*arrays, prediction.classes, path, title=prediction.name))
        if len(self.drawn) == self.limit:
            self.events.message(f"drew the first {self.limit} images into {self.folder}")

    def _path(self, name: str) -> Path:
        """Return a path that is not drawn yet: names such as a.jpg and a.png would share one."""
        path = self.folder.joinpath(*map(file_name, Path(name).parts))
        path = path.with_name(f"{path.name}.png")
        others = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
        return next(candidate for candidate in chain([path], others) if candidate not in self.drawn)
