"""Scenes drawn at any size whose objects' scale and shape are known, with the labels of all three tasks. Torch-free."""

import math
from collections import namedtuple
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from atmviz.sources.datasets import SHAPE_CLASSES
from atmviz.sources.outlines import OUTLINES, outlines
from atmviz.sources.textures import LIGHTS, TEXTURES, background_textures, cut, lights, palettes, textures

MAX_OBJECTS = 4
MAIN_SCALE = (0.16, 0.9)  # range of the object that names the class, as a fraction of the image side
OTHER_SCALE = 0.08  # smallest of the others; the largest is 0.6 of the main object's
_OTHER_TO_MAIN = 0.6
_SPLINTERS = 6  # at most, behind the objects and as many before them
_CLUTTER_NUMBERS = 4 + _SPLINTERS * 8  # random numbers that each call of `_scatter_clutter` uses


class SceneObject(NamedTuple):
    """An object of a scene, visible or hidden.

    Attributes:
        label: Index into `SHAPE_CLASSES`.
        scale: Length along its axis as a fraction of the image side.
        elongation: Length over width of the whole outline: 1 is as wide as long.
        angle: Direction of the axis, radians, clockwise from the right.
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
        table = np.zeros(256, np.uint8)
        table[1 : len(self.objects) + 1] = [1 + thing.label for thing in self.objects]
        return cv2.LUT(self.instance_map, table)

    @cached_property
    def visible(self) -> tuple[int, ...]:
        """Positions in `objects` of those with at least one visible pixel."""
        counts = cv2.calcHist([self.instance_map], [0], None, [256], [0, 256]).ravel()
        return tuple(k for k in range(len(self.objects)) if counts[k + 1])

    @property
    def boxes(self) -> np.ndarray:
        """[N, 4], float32 px (left, top, right, bottom; right and bottom exclusive) of the visible objects."""
        boxes = [cv2.boundingRect(cv2.inRange(self.instance_map, k + 1, k + 1)) for k in self.visible]
        return np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.float32).reshape(-1, 4)


# The random numbers in [0, 1) that a scene follows from; `row` and `column` select a part of a texture or of the light
_SceneDraw = namedtuple("_SceneDraw", "objects main background row column light light_row light_column")
# Those of an object, apart from its colors
_ObjectDraw = namedtuple(
    "_ObjectDraw", "scale label outline angle center_i center_j texture texture_row texture_column"
)
_SCENE_NUMBERS = len(_SceneDraw._fields)
_COLOR_NUMBERS = 7  # brightness step, then tint and contrast of three channels
_OBJECT_NUMBERS = _COLOR_NUMBERS + len(_ObjectDraw._fields)


def draw_scene(size: int, key: tuple[int, ...]) -> Scene:
    """Draw the scene of a key, `size` px a side; the same key gives the same scene."""
    # All randomness in one call: a call costs as much as drawing a small object.
    numbers = np.random.default_rng(key).random(_SCENE_NUMBERS + MAX_OBJECTS * _OBJECT_NUMBERS + 2 * _CLUTTER_NUMBERS)
    scene = _SceneDraw(*numbers[:_SCENE_NUMBERS].tolist())
    count = 1 + int(scene.objects * MAX_OBJECTS)
    main = int(scene.main * count)
    of_objects = numbers[_SCENE_NUMBERS : -2 * _CLUTTER_NUMBERS].reshape(MAX_OBJECTS, -1)[:count]
    draws = [_ObjectDraw(*row) for row in of_objects[:, _COLOR_NUMBERS:].tolist()]

    backgrounds, brightness = background_textures(size)
    which = int(scene.background * TEXTURES)
    image = cut(backgrounds[which], scene.row, scene.column, size, size).copy()
    instance_map = np.zeros((size, size), np.uint8)
    _scatter_clutter(image, None, numbers[-2 * _CLUTTER_NUMBERS : -_CLUTTER_NUMBERS])
    colors = _object_palettes(brightness[which], of_objects[:, :_COLOR_NUMBERS])
    main_scale = _log_uniform(*MAIN_SCALE, draws[main].scale)
    objects = []
    for k, (draw, palette) in enumerate(zip(draws, colors, strict=True)):
        scale = main_scale if k == main else _log_uniform(OTHER_SCALE, _OTHER_TO_MAIN * main_scale, draw.scale)
        thing = _place_object(draw, scale, size, margin=0.35 * scale if k == main else 0.0)
        _paint_object(image, instance_map, k + 1, thing, draw, palette)
        objects.append(thing)
    _scatter_clutter(image, instance_map, numbers[-_CLUTTER_NUMBERS:])
    light = cut(lights(size)[int(scene.light * LIGHTS)], scene.light_row, scene.light_column, size, size)
    return Scene(cv2.multiply(image, light, scale=1 / 128), objects[main].label, instance_map, tuple(objects))


def _log_uniform(low: float, high: float, number: float) -> float:
    return low * (high / low) ** number


def _object_palettes(background: float, numbers: np.ndarray) -> np.ndarray:
    """Palettes that differ enough from a background's brightness, [N, 256, 1, 3], from numbers [N, 7]."""
    step = 45 + 60 * numbers[:, 0]
    return palettes(background + np.where(background + step < 210, step, -step), numbers[:, 1:])


def _place_object(draw: _ObjectDraw, scale: float, size: int, margin: float) -> SceneObject:
    """Place an object; a margin, as a fraction of the side, keeps the main object mostly inside."""
    label = int(draw.label * len(SHAPE_CLASSES))
    elongation = outlines(label)[int(draw.outline * OUTLINES)][2]
    center_i, center_j = (size * (margin + (1 - 2 * margin) * number) for number in (draw.center_i, draw.center_j))
    return SceneObject(label, scale, elongation, math.tau * draw.angle, (center_i, center_j))


def _paint_object(
    image: np.ndarray, instance_map: np.ndarray, number: int, thing: SceneObject, draw: _ObjectDraw, palette: np.ndarray
) -> None:
    size = len(image)
    points, parts, _ = outlines(thing.label)[int(draw.outline * OUTLINES)]
    length, (center_i, center_j) = thing.scale * size, thing.center
    cos, sin = length * math.cos(thing.angle), length * math.sin(thing.angle)
    corners = (points @ np.array([(cos, sin), (-sin, cos), (center_j, center_i)], np.float32)).astype(np.int32)

    left, top, width, height = cv2.boundingRect(corners)
    right, bottom, left, top = min(left + width, size), min(top + height, size), max(left, 0), max(top, 0)
    if left < right and top < bottom:
        cv2.fillPoly(instance_map, [corners[start:end] for start, end in parts], number)
        mask = (instance_map[top:bottom, left:right] == number).view(np.uint8)
        texture = textures(size)[int(draw.texture * TEXTURES)]
        patch = cut(texture, draw.texture_row, draw.texture_column, *mask.shape)
        cv2.copyTo(cv2.applyColorMap(patch, palette), mask, image[top:bottom, left:right])


def _scatter_clutter(image: np.ndarray, instance_map: np.ndarray | None, numbers: np.ndarray) -> None:
    """Paint small splinters of one color, which belong to no object and hide what is below them."""
    count = 1 + int(numbers[0] * _SPLINTERS)
    color = (255 * numbers[1:4]).tolist()
    points = numbers[4:].reshape(_SPLINTERS, 4, 2)[:count]
    splinters = list((len(image) * (points[:, :1] + 0.08 * (points[:, 1:] - 0.5))).astype(np.int32))
    cv2.fillPoly(image, splinters, color)
    if instance_map is not None:
        cv2.fillPoly(instance_map, splinters, 0)
