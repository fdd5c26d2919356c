"""Contrast of colors, and the rim that keeps a mark visible on any background."""

from matplotlib.colors import to_rgb

_DARK, _LIGHT = "black", "white"


def luminance(color: object) -> float:
    """Return the relative luminance of an sRGB color, 0 (black) to 1 (white).

    Source: WCAG 2.2, "relative luminance".
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]  # type: ignore[arg-type]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: object, second: object) -> float:
    """Return the contrast ratio of two colors, 1 (none) to 21.

    Source: WCAG 2.2, "contrast ratio".

    >>> round(contrast("black", "white"))
    21
    """
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def rim_colors(fill: object) -> tuple[str, str]:
    """Return the colors of the inner and the outer line around a fill: the inner one contrasts more with it.

    One of the two lines contrasts with any background.
    """
    return (_LIGHT, _DARK) if contrast(fill, _LIGHT) >= contrast(fill, _DARK) else (_DARK, _LIGHT)
