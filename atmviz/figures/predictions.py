"""What a segmenter or a detector made of an image, beside what is there."""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from atmviz.architecture import IGNORE_INDEX
from atmviz.figures.style import drawable, figure_style, save_figure, wrap_title

_MIN_SCORE = 0.3  # of a detection to be drawn
_NAMED = 12  # classes in a legend
_NAME_LENGTH = 24  # signs of each
_PANEL = 3.2  # inches
_BACKGROUND = (0.88, 0.88, 0.88)
_GOLDEN = 0.618034  # of the colour circle: neighbouring classes differ most


def draw_segmentation(
    image: np.ndarray, truth: np.ndarray, found: np.ndarray, classes: Sequence[str], path: Path, *, title: str = ""
) -> Path:
    """Image, true and predicted classes side by side, as a .png file.

    Args:
        image: [H, W, 3], uint8.
        truth, found: [H, W], class of every pixel; 255 counts nowhere and is left black.
        classes: Their names.
        path: The file, which appears whole or not at all.
        title: Above the panels.
    """
    present = [k for k in np.unique([truth, found]).tolist() if k != IGNORE_INDEX]
    areas = {k: int((truth == k).sum() + (found == k).sum()) for k in present}
    named = sorted(sorted(present, key=lambda k: -areas[k])[:_NAMED])
    colors = np.zeros((256, 3), np.float32)
    colors[: len(classes)] = [_BACKGROUND if name == "background" else class_color(k) for k, name in enumerate(classes)]
    shown = [image, *(_blend(image, mask, colors) for mask in (truth, found))]
    legend = [Patch(color=colors[k], label=drawable(classes[k], _NAME_LENGTH)) for k in named]
    return _draw(shown, ("image", "truth", "prediction"), legend, path, title)


def draw_detection(
    image: np.ndarray,
    truth: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    classes: Sequence[str],
    path: Path,
    *,
    title: str = "",
) -> Path:
    """True and found objects side by side, as a .png file.

    Args:
        image: [H, W, 3], uint8.
        truth, found: boxes [N, 4] in px (x1, y1, x2, y2) and labels [N]; masks [N, H, W], where there are any; scores
            [N] of those found, of which the ones from 0.3 on are drawn.
        classes, path, title: As in `draw_segmentation`.
    """
    kept = np.flatnonzero(found["scores"] >= _MIN_SCORE)
    chosen = {name: values[kept] for name, values in found.items()}
    labels = sorted({*truth["labels"].tolist(), *chosen["labels"].tolist()})
    legend = [Patch(color=class_color(k), label=drawable(classes[k], _NAME_LENGTH)) for k in labels[:_NAMED]]
    headings = (f"truth: {_count(truth['labels'])}", f"found: {_count(kept)} of score {_MIN_SCORE:g} or more")
    shown = [_with_masks(image, one) for one in (truth, chosen)]
    return _draw(shown, headings, legend, path, title, boxes=(truth, chosen))


def class_color(label: int) -> tuple[float, float, float]:
    """Red, green and blue of a class, from 0 to 1; the same in every figure."""
    return colorsys.hls_to_rgb((0.58 + label * _GOLDEN) % 1, (0.42, 0.6, 0.5)[label % 3], 0.75)


def _draw(
    panels: Sequence[np.ndarray],
    headings: Sequence[str],
    legend: Sequence[Patch],
    path: Path,
    title: str,
    boxes: Sequence[Mapping[str, np.ndarray]] = (),
) -> Path:
    height, width = panels[0].shape[:2]
    panel = (_PANEL, min(2 * _PANEL, _PANEL * height / width))
    rows = -(-len(legend) // 6)
    with figure_style():
        across = panel[0] * len(panels)
        text, above = wrap_title(title, across)
        figure = Figure(figsize=(across, panel[1] + above + 0.35 + 0.2 * rows), layout="constrained")
        for number, (axes, shown, heading) in enumerate(
            zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, headings, strict=True)
        ):
            axes.imshow(shown, interpolation="nearest" if width < 256 else None)
            axes.set_title(heading)
            axes.set_axis_off()
            for index in range(len(boxes[number]["labels"]) if boxes else 0):
                _draw_box(axes, boxes[number], index)
        figure.suptitle(text, fontsize=10)
        if legend:
            figure.legend(handles=legend, loc="outside lower center", ncols=min(6, len(legend)), frameon=False)
        (written,) = save_figure(figure, path.with_suffix(""), ["png"])
    return written


def _count(objects: Sequence[Any] | np.ndarray) -> str:
    return f"{len(objects)} object{'s'[: len(objects) != 1]}"


def _draw_box(axes: Any, objects: Mapping[str, np.ndarray], index: int) -> None:
    (x1, y1, x2, y2), color = objects["boxes"][index].tolist(), class_color(int(objects["labels"][index]))
    # imshow's pixels are centred on whole numbers, a box's edges lie between pixels
    axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.5))
    if "scores" in objects:
        place = {"ha": "left", "va": "bottom", "fontsize": 6, "color": "white", "clip_on": True}
        axes.text(x1, y1, f"{objects['scores'][index]:.2f}", bbox={"facecolor": color, "pad": 0.8, "lw": 0}, **place)


def _with_masks(image: np.ndarray, objects: Mapping[str, np.ndarray]) -> np.ndarray:
    shown = image.astype(np.float32) / 255
    for label, mask in zip(objects["labels"].tolist(), objects.get("masks", ()), strict=False):
        shown[mask > 0] = 0.5 * shown[mask > 0] + 0.5 * np.array(class_color(label))
    return shown


def _blend(image: np.ndarray, mask: np.ndarray, colors: np.ndarray) -> np.ndarray:
    shown = 0.35 * image.astype(np.float32) / 255 + 0.65 * colors[mask]
    shown[mask == IGNORE_INDEX] = 0
    return shown
