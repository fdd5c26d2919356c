"""Textures and light of drawn scenes. Torch-free."""

import math
from functools import cache

import cv2
import numpy as np

TEXTURES, LIGHTS = 32, 32
BANK_SEED = 20220308  # textures, lights and outlines are the same for all seeds and splits
_RAMP = np.linspace(0, 1, 256, dtype=np.float32).reshape(256, 1, 1)


def palettes(brightness: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the colors of N textures, [N, 256, 1, 3], from brightness [N] and numbers [N, 6] of tint and contrast."""
    brightness, numbers = brightness.astype(np.float32), numbers.astype(np.float32)
    middle = brightness[:, None] + 60 * (numbers[:, :3] - 0.5)
    change = 90 * (numbers[:, 3:] - 0.5)
    colors = middle[:, None, None] + (_RAMP - 0.5) * change[:, None, None]
    return colors.clip(0, 255).astype(np.uint8)


def cut(texture: np.ndarray, row: float, column: float, height: int, width: int) -> np.ndarray:
    """Return a part of a texture, [height, width, ...], at `row` and `column` in [0, 1)."""
    top, left = int(row * (texture.shape[0] - height)), int(column * (texture.shape[1] - width))
    return texture[top : top + height, left : left + width]


@cache
def textures(size: int) -> tuple[np.ndarray, ...]:
    """Return gray textures, a quarter larger than the scene: clouds, grain, stripes, waves, tiles, dots."""
    side = size + size // 4
    rng = np.random.default_rng(BANK_SEED)
    i, j = np.mgrid[:side, :side].astype(np.float32) / size
    made = []
    for k in range(TEXTURES):
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
        gray = patterns[k % len(patterns)] + 0.4 * clouds
        made.append(np.clip(128 + 60 * gray, 0, 255).astype(np.uint8))
    return tuple(made)


def _standardize(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


@cache
def background_textures(size: int) -> tuple[list[np.ndarray], list[float]]:
    """Return the textures in color, [H, W, 3], and their mean brightness."""
    rng = np.random.default_rng(BANK_SEED)
    colors = palettes(rng.uniform(50, 170, TEXTURES), rng.random((TEXTURES, 6)))
    colored = [cv2.applyColorMap(t, p) for t, p in zip(textures(size), colors, strict=True)]
    return colored, [float(texture.mean()) for texture in colored]


@cache
def lights(size: int) -> list[np.ndarray]:
    """Return smooth, slightly colored light, [H, W, 3], a quarter larger than the scene; 128 changes nothing."""
    rng = np.random.default_rng(BANK_SEED)
    side = size + size // 4
    grids = rng.uniform(80, 190, (LIGHTS, 4, 4, 1)) * rng.uniform(0.75, 1.25, (LIGHTS, 1, 1, 3))
    return [cv2.resize(grid.astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC) for grid in grids]
