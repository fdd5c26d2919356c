"""Outlines of drawn objects, ten classes from round to long, thin, bent and multi-part. Torch-free."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from atmviz.sources.datasets import SHAPE_CLASSES
from atmviz.sources.textures import BANK_SEED

OUTLINES = 64  # variations of each class, before scale, stretch and rotation
Outline = tuple[np.ndarray, list[tuple[int, int]], float]


@cache
def outlines(label: int) -> list[Outline]:
    """Return the variations of a class: points [P, 3], the slice of each part, elongation.

    A point is (x along the axis, y across, 1); the longer side is 1. Overlapping parts leave a hole (even-odd rule).
    """
    rng = np.random.default_rng((BANK_SEED, label))
    made = []
    for _ in range(OUTLINES):
        parts = _MAKERS[SHAPE_CLASSES[label]](rng)
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


def _rectangle(height: float) -> list[np.ndarray]:
    return [np.array([(-1, -height), (1, -height), (1, height), (-1, height)])]


def _box(rng: np.random.Generator) -> list[np.ndarray]:
    return _rectangle(rng.uniform(0.65, 1))


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
    return _rectangle(1 / rng.uniform(6, 12))


def _ribbon(x: np.ndarray, y: np.ndarray, thickness: float) -> np.ndarray:
    """Return the outline of a stroke along a curve."""
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


_MAKERS: dict[str, Callable[[np.random.Generator], list[np.ndarray]]] = {
    **{"disc": _disc, "ring": _ring, "box": _box, "triangle": _triangle, "star": _star},
    **{"cross": _cross, "bar": _bar, "arc": _arc, "wave": _wave, "chain": _chain},
}
