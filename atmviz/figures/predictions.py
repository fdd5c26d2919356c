"""Predictions of a segmenter or detector beside the truth, one file for each image."""

import colorsys
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import Bbox

from atmviz.architecture import IGNORE_INDEX
from atmviz.figures.saving import save_figure
from atmviz.figures.style import drawable, figure_style, wrap_title
from atmviz.files import file_name

if TYPE_CHECKING:
    from atmviz.training.evaluator import Prediction

_MIN_SCORE = 0.3  # detections below it are not drawn
_MAX_NAMED = 12  # classes in a legend
_NAME_LENGTH = 24  # characters of a class name
_BOX_NAME_LENGTH = 16  # of one at a box
_LEGEND_TYPE = 7.5  # points
_PANEL = 3.2  # inches
_BACKGROUND = (0.88, 0.88, 0.88)
_GOLDEN = 0.618034  # of the color circle: neighboring classes differ most


class PredictionFolder:
    """Draws the first predictions it is called with, as `folder/IMAGE NAME.png`.

    Args:
        folder: Where to draw; no image name leads out of it.
        limit: Largest number of images to draw.

    Attributes:
        drawn: Paths of the images so far.
    """

    def __init__(self, folder: Path, limit: int = 24) -> None:
        self.folder, self.limit = folder, limit
        self.drawn: list[Path] = []

    def __call__(self, prediction: "Prediction") -> None:
        """Draw an image's labels and prediction side by side."""
        if len(self.drawn) >= self.limit:
            return
        draw = draw_detection if isinstance(prediction.predicted, dict) else draw_segmentation
        path = self._path(prediction.name)
        arrays = prediction.image, prediction.truth, prediction.predicted
        self.drawn.append(draw(*arrays, prediction.classes, path, title=prediction.name))

    def _path(self, name: str) -> Path:
        """Return a path that is not drawn yet: names such as a.jpg and a.png would share one."""
        path = self.folder.joinpath(*map(file_name, Path(name).parts))
        path = path.with_name(f"{path.name}.png")
        others = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
        return next(candidate for candidate in chain([path], others) if candidate not in self.drawn)


def draw_segmentation(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str], path: Path, *, title: str = ""
) -> Path:
    """Draw image, true classes and predicted classes side by side, atomically, and return the path.

    Args:
        image: The image, [H, W, 3], uint8 RGB.
        truth, predicted: Class of every pixel, [H, W]; pixels of class 255 are black.
        classes: Names of the classes.
        path: A .png file.
        title: Text above the panels.
    """
    present = [k for k in np.unique([truth, predicted]).tolist() if k != IGNORE_INDEX]
    areas = {k: int((truth == k).sum() + (predicted == k).sum()) for k in present}
    named = sorted(sorted(present, key=lambda k: -areas[k])[:_MAX_NAMED])
    colors = np.zeros((256, 3), np.float32)
    colors[: len(classes)] = [_BACKGROUND if name == "background" else class_color(k) for k, name in enumerate(classes)]
    shown = [image, *(_blend(image, mask, colors) for mask in (truth, predicted))]
    legend = [Patch(color=colors[k], label=drawable(classes[k], _NAME_LENGTH)) for k in named]
    return _draw(shown, ("image", "truth", "prediction"), legend, path, title)


def draw_detection(
    image: np.ndarray,
    truth: Mapping[str, np.ndarray],
    predicted: Mapping[str, np.ndarray],
    classes: Sequence[str],
    path: Path,
    *,
    title: str = "",
) -> Path:
    """Draw true and predicted objects side by side, atomically, and return the path.

    Args:
        image: The image, [H, W, 3], uint8 RGB.
        truth, predicted: Boxes [N, 4] (x1, y1, x2, y2) in px, labels [N], masks [N, H, W] where there are any, and
            scores [N] of predicted objects; those below 0.3 are not drawn.
        classes: Names of the classes.
        path: A .png file.
        title: Text above the panels.
    """
    kept = np.flatnonzero(predicted["scores"] >= _MIN_SCORE)
    chosen = {name: values[kept] for name, values in predicted.items()}
    labels = sorted({*truth["labels"].tolist(), *chosen["labels"].tolist()})
    legend = [Patch(color=class_color(k), label=drawable(classes[k], _NAME_LENGTH)) for k in labels[:_MAX_NAMED]]
    headings = (f"truth: {_count(truth['labels'])}", f"predicted: {_count(kept)} of score {_MIN_SCORE:g} or more")
    shown = [_with_masks(image, objects) for objects in (truth, chosen)]
    return _draw(shown, headings, legend, path, title, boxes=(truth, chosen), classes=classes)


def class_color(label: int) -> tuple[float, float, float]:
    """Return the color of a class as red, green and blue from 0 to 1; it is the same in every figure."""
    return colorsys.hls_to_rgb((0.58 + label * _GOLDEN) % 1, (0.42, 0.6, 0.5)[label % 3], 0.75)


def _draw(
    panels: Sequence[np.ndarray],
    headings: Sequence[str],
    legend: Sequence[Patch],
    path: Path,
    title: str,
    boxes: Sequence[Mapping[str, np.ndarray]] = (),
    classes: Sequence[str] = (),
) -> Path:
    height, width = panels[0].shape[:2]
    panel = (_PANEL, min(2 * _PANEL, _PANEL * height / width))
    longest = max((len(str(patch.get_label())) for patch in legend), default=0)
    columns = max(1, int(72 * _PANEL * len(panels) / (0.57 * _LEGEND_TYPE * longest + 35)))  # names, and room beside
    rows = -(-len(legend) // columns)
    with figure_style():
        across = panel[0] * len(panels)
        text, above = wrap_title(title, across)
        figure = Figure(figsize=(across, panel[1] + above + 0.35 + 0.2 * rows), layout="constrained")
        for number, (axes, shown, heading) in enumerate(
            zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, headings, strict=True)
        ):
            axes.imshow(shown, interpolation="nearest" if width < 256 else None)
            axes.set_title(heading)
            axes.set(xticks=[], yticks=[], frame_on=False)
            for index in range(len(boxes[number]["labels"]) if boxes else 0):
                _draw_box(axes, boxes[number], index)
        figure.suptitle(text, fontsize=10)
        if legend:
            figure.legend(
                handles=legend, loc="outside lower center", ncols=columns, frameon=False, fontsize=_LEGEND_TYPE
            )
        if boxes:
            figure.draw_without_rendering()  # where the panels lie decides where names fit
            for axes, objects in zip(figure.axes, boxes, strict=True):
                _name_boxes(axes, objects, classes)
        (written,) = save_figure(figure, [path])
    return written


def _count(objects: Sequence[Any] | np.ndarray) -> str:
    return f"{len(objects)} object{'s'[: len(objects) != 1]}"


def _draw_box(axes: Any, objects: Mapping[str, np.ndarray], index: int) -> None:
    (x1, y1, x2, y2), color = objects["boxes"][index].tolist(), class_color(int(objects["labels"][index]))
    # imshow centers pixels on whole numbers; edges of boxes lie between pixels
    axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.5))


def _name_boxes(axes: Any, objects: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Write class and score at each box where no other name is in the way, the surest object first.

    A name without a free corner is left out; the color of its box is in the legend.
    """
    taken: list[Bbox] = []
    scores = objects.get("scores", np.ones(len(objects["labels"])))
    for index in np.argsort(-scores, kind="stable").tolist():
        (x1, y1, x2, y2), label = objects["boxes"][index].tolist(), int(objects["labels"][index])
        score = f" {scores[index]:.2f}" if "scores" in objects else ""
        text = axes.text(
            *(x1, y1, f"{drawable(classes[label], _BOX_NAME_LENGTH)}{score}"),
            fontsize=6,
            color="white" if _luminance(class_color(label)) < 0.3 else "black",
            bbox={"facecolor": class_color(label), "pad": 0.8, "lw": 0},
            in_layout=False,
        )
        corners = [
            (x, y, ha, va)
            for y, va in ((y1, "bottom"), (y1, "top"), (y2, "bottom"), (y2, "top"))
            for x, ha in ((x1, "left"), (x2, "right"))
        ]
        for x, y, ha, va in corners:
            text.set(x=x, y=y, ha=ha, va=va)
            extent = text.get_window_extent().padded(2)
            is_inside = all(map(axes.bbox.padded(4).contains, *extent.get_points().T))
            if is_inside and not any(extent.overlaps(other) for other in taken):
                taken.append(extent)
                break
        else:
            text.remove()


def _luminance(color: tuple[float, float, float]) -> float:
    """Return the relative luminance of an sRGB color, from 0 (black) to 1 (white)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def _with_masks(image: np.ndarray, objects: Mapping[str, np.ndarray]) -> np.ndarray:
    shown = image.astype(np.float32) / 255
    for label, mask in zip(objects["labels"].tolist(), objects.get("masks", ()), strict=False):
        shown[mask > 0] = 0.5 * shown[mask > 0] + 0.5 * np.array(class_color(label))
    return shown


def _blend(image: np.ndarray, mask: np.ndarray, colors: np.ndarray) -> np.ndarray:
    shown = 0.35 * image.astype(np.float32) / 255 + 0.65 * colors[mask]
    shown[mask == IGNORE_INDEX] = 0
    return shown
