"""Shapes: procedural scenes whose objects' scale and shape are known, for classification, segmentation and detection.

Every scene follows from (seed, split, index) alone: no files, any size. Torch-free.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, NamedTuple

import cv2
import numpy as np

from atmviz.errors import DatasetError
from atmviz.geometry import MIN_SIZE_PX

# From round to long, thin, bent and multi-part.
SHAPE_CLASSES = ("disc", "ring", "box", "triangle", "star", "cross", "bar", "arc", "wave", "chain")
MAX_OBJECTS = 4
MAIN_SCALE = (0.16, 0.9)  # of the object that names the class, as a share of the image side
OTHER_SCALE = 0.08  # smallest of the others; the largest is 0.6 of the main object's
_OTHER_TO_MAIN = 0.6
_OUTLINES = 64  # variations of each class, before scale, stretch and rotation
_TEXTURES = 32
_SPLITS = ("train", "val")
_LIGHTS = 32
_SPLINTERS = 6  # at most, behind the objects and as many before them
_SCENE_NUMBERS, _OBJECT_NUMBERS, _CLUTTER_NUMBERS = 8, 16, 4 + _SPLINTERS * 8  # random numbers that each consumes
_BANK_SEED = 20220308  # textures, lights and outlines are the same for all seeds and splits


class SceneObject(NamedTuple):
    """One object as it was placed, occluded or not.

    Attributes:
        label: Index into `SHAPE_CLASSES`.
        scale: Length along its own axis as a share of the image side.
        elongation: Length over width of the whole outline: 1 is as wide as long.
        angle: Of its axis, radians, clockwise from the right.
        center: (i, j) in px.
    """

    label: int
    scale: float
    elongation: float
    angle: float
    center: tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """One sample, with the labels of all three tasks.

    Attributes:
        image: [H, W, 3], uint8, RGB.
        label: Class of the largest object, index into `SHAPE_CLASSES`.
        instance_map: [H, W], uint8: 0 background, k the visible pixels of `objects[k - 1]`.
        objects: In drawing order: later ones occlude earlier ones.
    """

    image: np.ndarray
    label: int
    instance_map: np.ndarray
    objects: tuple[SceneObject, ...]

    @cached_property
    def semantic_mask(self) -> np.ndarray:
        """[H, W], uint8: 0 background, 1 + class elsewhere."""
        table = np.array([0, *(1 + one.label for one in self.objects)], np.uint8)
        return table[self.instance_map]

    @property
    def visible(self) -> tuple[int, ...]:
        """Objects (positions in `objects`) of which at least one pixel is seen."""
        counts = np.bincount(self.instance_map.ravel(), minlength=len(self.objects) + 1)
        return tuple(np.flatnonzero(counts[1:]).tolist())

    @property
    def instance_masks(self) -> np.ndarray:
        """[N, H, W], bool: the visible pixels of each visible object."""
        wanted = np.array(self.visible, np.uint8) + 1
        return self.instance_map == wanted[:, None, None]

    @property
    def boxes(self) -> np.ndarray:
        """[N, 4], float32 px (left, top, right, bottom; right and bottom exclusive) of the visible objects."""
        found = [cv2.boundingRect(mask.view(np.uint8)) for mask in self.instance_masks]
        return np.array([(x, y, x + w, y + h) for x, y, w, h in found], np.float32).reshape(-1, 4)

    @property
    def labels(self) -> np.ndarray:
        """[N], int64: classes of the visible objects."""
        return np.array([self.objects[k].label for k in self.visible], np.int64)


class Shapes:
    """A sequence of `Scene`s.

    Args:
        size: Side of the square image, px.
        length: Number of scenes, a million for training and 10,000 for validation without it; the first ones do not
            depend on it.
        split: "train" and "val" share no scene.
        seed: Of the whole dataset.

    Raises:
        DatasetError: an image too small, an unknown split, or no scenes.
    """

    def __init__(
        self, size: int = 128, length: int | None = None, split: Literal["train", "val"] = "train", seed: int = 0
    ) -> None:
        length = (1_000_000 if split == "train" else 10_000) if length is None else length
        if size < MIN_SIZE_PX or length < 1 or split not in _SPLITS or seed < 0:
            raise DatasetError(
                f"got shapes of {size} px, {length} scenes, split {split!r}, seed {seed}; "
                f"expected {MIN_SIZE_PX} px or more, 1 scene or more, one of {', '.join(_SPLITS)}, seed 0 or more"
            )
        self.size, self.length, self.split, self.seed = size, length, split, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return draw_scene(self.size, (self.seed, _SPLITS.index(self.split), index))


def draw_scene(size: int, key: tuple[int, ...]) -> Scene:
    """The scene of a key, `size` px a side; the same for the same key."""
    # All randomness in one call: a call costs as much as drawing a small object.
    numbers = np.random.default_rng(key).random(_SCENE_NUMBERS + MAX_OBJECTS * _OBJECT_NUMBERS + 2 * _CLUTTER_NUMBERS)
    of_count, of_main, of_background, row, column, of_light, light_row, light_column = numbers[:_SCENE_NUMBERS].tolist()
    count = 1 + int(of_count * MAX_OBJECTS)
    main = int(of_main * count)
    of_objects = numbers[_SCENE_NUMBERS : -2 * _CLUTTER_NUMBERS].reshape(MAX_OBJECTS, -1)[:count]

    textures, brightness = _background_textures(size)
    which = int(of_background * _TEXTURES)
    image = _cut(textures[which], row, column, size, size).copy()
    instance_map = np.zeros((size, size), np.uint8)
    _scatter_clutter(image, None, numbers[-2 * _CLUTTER_NUMBERS : -_CLUTTER_NUMBERS])
    objects = []
    step = 45 + 60 * of_objects[:, 0]  # from the background's brightness: enough to be seen
    palettes = _palettes(brightness[which] + np.where(brightness[which] + step < 210, step, -step), of_objects[:, 1:7])
    draws = of_objects[:, 7:].tolist()
    main_scale = _log_uniform(*MAIN_SCALE, draws[main][0])
    for k, (draw, palette) in enumerate(zip(draws, palettes, strict=True)):
        scale = main_scale if k == main else _log_uniform(OTHER_SCALE, _OTHER_TO_MAIN * main_scale, draw[0])
        objects.append(_draw_object(image, instance_map, k + 1, scale, k == main, draw, palette))
    _scatter_clutter(image, instance_map, numbers[-_CLUTTER_NUMBERS:])
    light = _cut(_lights(size)[int(of_light * _LIGHTS)], light_row, light_column, size, size)
    return Scene(cv2.multiply(image, light, scale=1 / 128), objects[main].label, instance_map, tuple(objects))


def _log_uniform(low: float, high: float, number: float) -> float:
    return low * (high / low) ** number


def _draw_object(
    image: np.ndarray,
    instance_map: np.ndarray,
    number: int,
    scale: float,
    is_main: bool,
    draw: list[float],
    palette: np.ndarray,
) -> SceneObject:
    size = len(image)
    label = int(draw[1] * len(SHAPE_CLASSES))
    points, parts, elongation = _outlines(label)[int(draw[2] * _OUTLINES)]
    angle, length = math.tau * draw[3], scale * size
    margin = 0.35 * scale if is_main else 0.0  # the main object stays mostly inside
    center_i, center_j = (size * (margin + (1 - 2 * margin) * number) for number in draw[4:6])
    cos, sin = length * math.cos(angle), length * math.sin(angle)
    corners = (points @ np.array([(cos, sin), (-sin, cos), (center_j, center_i)], np.float32)).astype(np.int32)

    left, top, width, height = cv2.boundingRect(corners)
    right, bottom, left, top = min(left + width, size), min(top + height, size), max(left, 0), max(top, 0)
    if left < right and top < bottom:
        cv2.fillPoly(instance_map, [corners[start:end] for start, end in parts], number)
        mask = (instance_map[top:bottom, left:right] == number).view(np.uint8)
        texture = _cut(_textures(size)[int(draw[6] * _TEXTURES)], draw[7], draw[8], *mask.shape)
        cv2.copyTo(cv2.applyColorMap(texture, palette), mask, image[top:bottom, left:right])
    return SceneObject(label, scale, elongation, angle, (center_i, center_j))


def _scatter_clutter(image: np.ndarray, instance_map: np.ndarray | None, numbers: np.ndarray) -> None:
    """Small splinters of one colour, which belong to no object and hide what is below them."""
    count = 1 + int(numbers[0] * _SPLINTERS)
    color = (255 * numbers[1:4]).tolist()
    numbers = numbers[4:].reshape(_SPLINTERS, 4, 2)[:count]
    corners = len(image) * (numbers[:, :1] + 0.08 * (numbers[:, 1:] - 0.5))
    splinters = list(corners.astype(np.int32))
    cv2.fillPoly(image, splinters, color)
    if instance_map is not None:
        cv2.fillPoly(instance_map, splinters, 0)


_RAMP = np.linspace(0, 1, 256, dtype=np.float32).reshape(256, 1, 1)


def _palettes(brightness: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Colours of N textures around a brightness [N], tinted and contrasted by numbers [N, 6]: [N, 256, 1, 3]."""
    brightness, numbers = brightness.astype(np.float32), numbers.astype(np.float32)
    middle = brightness[:, None] + 60 * (numbers[:, :3] - 0.5)
    change = 90 * (numbers[:, 3:] - 0.5)
    colors = middle[:, None, None] + (_RAMP - 0.5) * change[:, None, None]
    return colors.clip(0, 255).astype(np.uint8)


def _cut(texture: np.ndarray, row: float, column: float, height: int, width: int) -> np.ndarray:
    """A part of a texture, [height, width, ...], where two numbers in [0, 1) say."""
    top, left = int(row * (texture.shape[0] - height)), int(column * (texture.shape[1] - width))
    return texture[top : top + height, left : left + width]


@cache
def _textures(size: int) -> tuple[np.ndarray, ...]:
    """Grey textures a quarter larger than the scene: clouds, grain, stripes, waves, tiles, dots."""
    side = size + size // 4
    rng = np.random.default_rng(_BANK_SEED)
    i, j = np.mgrid[:side, :side].astype(np.float32) / size
    made = []
    for k in range(_TEXTURES):
        angle, waves = rng.uniform(0, math.pi), rng.uniform(6, 30)
        along, across = i * math.sin(angle) + j * math.cos(angle), i * math.cos(angle) - j * math.sin(angle)
        noise = rng.random((side, side), dtype=np.float32)
        clouds = _standardize(cv2.GaussianBlur(noise, (0, 0), size * rng.uniform(0.01, 0.06)))
        patterns = (
            clouds,
            _standardize(cv2.GaussianBlur(noise, (0, 0), max(0.5, size * 0.004))),
            np.sin(math.tau * waves * along),
            np.sin(math.tau * waves * along + 2 * np.sin(math.tau * waves / 3 * across)),
            np.sign(np.sin(math.tau * waves / 2 * along) * np.sin(math.tau * waves / 2 * across)),
            3 * np.sin(math.tau * waves / 2 * along) * np.sin(math.tau * waves / 2 * across) - 1,
        )
        grey = patterns[k % len(patterns)] + 0.4 * clouds
        made.append(np.clip(128 + 60 * grey, 0, 255).astype(np.uint8))
    return tuple(made)


def _standardize(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


@cache
def _background_textures(size: int) -> tuple[list[np.ndarray], list[float]]:
    """The textures in colour, [H, W, 3], and their mean brightness."""
    rng = np.random.default_rng(_BANK_SEED)
    palettes = _palettes(rng.uniform(50, 170, _TEXTURES), rng.random((_TEXTURES, 6)))
    colored = [cv2.applyColorMap(t, p) for t, p in zip(_textures(size), palettes, strict=True)]
    return colored, [float(one.mean()) for one in colored]


@cache
def _lights(size: int) -> list[np.ndarray]:
    """Smooth, uneven, slightly coloured light a quarter larger than the scene, [H, W, 3]; 128 leaves it as it is."""
    rng = np.random.default_rng(_BANK_SEED)
    side = size + size // 4
    grids = rng.uniform(80, 190, (_LIGHTS, 4, 4, 1)) * rng.uniform(0.75, 1.25, (_LIGHTS, 1, 1, 3))
    return [cv2.resize(grid.astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC) for grid in grids]


Outline = tuple[np.ndarray, list[tuple[int, int]], float]


@cache
def _outlines(label: int) -> list[Outline]:
    """Variations of a class: points [P, 3] (x along the axis, y across, 1; one long), the parts' slices, elongation.

    Overlapping parts leave a hole (even-odd rule), as the ring's do.
    """
    rng = np.random.default_rng((_BANK_SEED, label))
    made = []
    for _ in range(_OUTLINES):
        parts = _OUTLINE_MAKERS[SHAPE_CLASSES[label]](rng)
        points = np.concatenate(parts)
        points -= (points.min(0) + points.max(0)) / 2
        extent = np.ptp(points, axis=0)
        points /= extent.max()
        ends = np.cumsum([len(part) for part in parts]).tolist()
        homogeneous = np.c_[points, np.ones(len(points))].astype(np.float32)
        made.append((homogeneous, list(zip([0, *ends], ends, strict=False)), extent[0] / extent[1]))
    return made


def _ellipse(width: float = 1.0, height: float = 1.0, x: float = 0.0) -> np.ndarray:
    turn = np.linspace(0, math.tau, 40, endpoint=False)
    return np.stack([x + width / 2 * np.cos(turn), height / 2 * np.sin(turn)], 1)


def _disc(rng: np.random.Generator) -> list[np.ndarray]:
    return [_ellipse(1, rng.uniform(0.75, 1))]


def _ring(rng: np.random.Generator) -> list[np.ndarray]:
    height, hole = rng.uniform(0.75, 1), rng.uniform(0.45, 0.7)
    return [_ellipse(1, height), _ellipse(hole, hole * height)]


def _box(rng: np.random.Generator) -> list[np.ndarray]:
    height = rng.uniform(0.65, 1)
    return [np.array([(-1, -height), (1, -height), (1, height), (-1, height)])]


def _triangle(rng: np.random.Generator) -> list[np.ndarray]:
    turn = np.array([0.0, 1.0, 2.0]) * math.tau / 3 + rng.uniform(-0.2, 0.2, 3)
    return [np.stack([np.cos(turn), np.sin(turn)], 1)]


def _star(rng: np.random.Generator) -> list[np.ndarray]:
    tips = int(rng.integers(5, 8))
    turn = np.arange(2 * tips) * math.pi / tips
    radius = np.where(np.arange(2 * tips) % 2, rng.uniform(0.35, 0.5), 1)
    return [np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)]


def _cross(rng: np.random.Generator) -> list[np.ndarray]:
    arm, height = rng.uniform(0.12, 0.2), rng.uniform(0.75, 1)
    quarter = [(1, -arm), (1, arm), (arm, arm), (arm, height), (-arm, height), (-arm, arm)]
    return [np.array(quarter + [(-x, -y) for x, y in quarter])]


def _bar(rng: np.random.Generator) -> list[np.ndarray]:
    height = 1 / rng.uniform(6, 12)
    return [np.array([(-1, -height), (1, -height), (1, height), (-1, height)])]


def _ribbon(x: np.ndarray, y: np.ndarray, thickness: float) -> np.ndarray:
    """The outline of a stroke along a curve."""
    curve = np.stack([x, y], 1)
    along = np.gradient(curve, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1, keepdims=True)
    return np.concatenate([curve + thickness / 2 * across, (curve - thickness / 2 * across)[::-1]])


def _arc(rng: np.random.Generator) -> list[np.ndarray]:
    turn = np.linspace(0, rng.uniform(0.45, 0.7) * math.tau, 24)
    turn = turn - turn.mean() - math.pi / 2
    return [_ribbon(np.cos(turn), np.sin(turn), rng.uniform(0.18, 0.34))]


def _wave(rng: np.random.Generator) -> list[np.ndarray]:
    x = np.linspace(-1, 1, 36)
    turns, height = rng.uniform(1.2, 1.9), rng.uniform(0.2, 0.32)
    return [_ribbon(x, height * np.sin(math.pi * turns * x), rng.uniform(0.13, 0.2))]


def _chain(rng: np.random.Generator) -> list[np.ndarray]:
    links = int(rng.integers(3, 6))
    return [_ellipse(rng.uniform(0.55, 0.7), rng.uniform(0.5, 0.7), x) for x in range(links)]


_OUTLINE_MAKERS: dict[str, Callable[[np.random.Generator], list[np.ndarray]]] = {
    "disc": _disc,
    "ring": _ring,
    "box": _box,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "bar": _bar,
    "arc": _arc,
    "wave": _wave,
    "chain": _chain,
}
