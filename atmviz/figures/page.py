"""Where the panels of an overlay lie on the page: all images equally high, pixels square, text beside them.

All lengths are inches.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from atmviz.errors import SettingsError
from atmviz.figures.style import Look, wrap

T = TypeVar("T")

_PANEL = 2.9, 4.1  # most width and height of an image where no width is given, for type of 9 points
_NARROWEST = 1.4  # of a panel, for type of 7 points
_GAP = 0.1  # between panels
_LOWEST, _SMALL = 0.2, 0.6  # sides of an image: the shortest, and one for which other columns are tried
_LARGEST = 24.0, 24.0  # width and height of a figure where no width is given
_TITLE = 0.93  # of its room that a line of a title takes: wide characters need more than the average
_LINE = 1.25 / 72  # height of a line of type of 1 point
_MAX_LAYERS, _MAX_SQUARE = 6, 4  # columns: of panels that belong in a row, and of others


@dataclass(frozen=True)
class Margins:
    """Room around an image: left, right, above, below.

    Attributes:
        fixed: Room for text.
        brief: The same where small images are drawn without some of it.
        beyond: Room for circles, in heights of the image.
    """

    fixed: tuple[float, ...] = (0.0,) * 4
    brief: tuple[float, ...] = (0.0,) * 4
    beyond: tuple[float, ...] = (0.0,) * 4

    def at(self, height: float) -> list[float]:
        """Return the room around an image of that height."""
        return [text + height * circles for text, circles in zip(self.fixed, self.beyond, strict=True)]


@dataclass(frozen=True)
class Page:
    """Where everything lies.

    Attributes:
        width, height: Of the figure.
        head, foot: Heights of the figure's title, and of what is below the panels.
        images: Left, bottom, width and height of each panel's image, as fractions of the figure.
        image_height: The height of images.
        above: Room between each image and its title.
        titles: Title of each panel and the line below it, in lines that fit.
        rooms: Width of each panel's title.
        is_brief: Whether images are so small that percentages and the lines below titles are left out.
    """

    width: float
    height: float
    head: float
    foot: float
    images: list[tuple[float, float, float, float]]
    image_height: float
    above: list[float]
    titles: list[tuple[str, str]]
    rooms: list[float]
    is_brief: bool = False

    def with_titles(self, titles: Sequence[tuple[str, str]], look: Look) -> "Page":
        """Return the page with the titles of other panels of the same shapes."""
        titles = [(title, "") for title, _ in titles] if self.is_brief else titles
        return replace(self, titles=_wrapped(titles, self.rooms, look))

    @property
    def smallest(self) -> float:
        """Shortest side of an image."""
        return min(self.image_height, *(width * self.width for _, _, width, _ in self.images))


Frame = Callable[[float], tuple[float, float]]
"""Takes the width of a figure and returns the heights of its head and foot."""


@dataclass(frozen=True)
class _Content:
    """What is to be laid out, see `lay_out`."""

    shapes: Sequence[float]
    titles: Sequence[tuple[str, str]]
    row: int
    margins: Sequence[Margins]
    frame: Frame
    look: Look

    @property
    def narrowest(self) -> float:
        """Width that a panel's title needs."""
        return _NARROWEST * self.look.points / 7

    def cells(self, columns: int) -> list[tuple[int, int]]:
        """Return row and column of each panel: rows that belong together begin anew, or lie side by side."""
        if columns >= self.row:
            bands = columns // self.row
            return [(p // self.row // bands, p // self.row % bands * self.row + p % self.row) for p in self._panels]
        lines = -(-self.row // columns)
        return [(p // self.row * lines + p % self.row // columns, p % self.row % columns) for p in self._panels]

    @property
    def _panels(self) -> range:
        return range(len(self.shapes))

    def page(self, columns: int, height: float) -> Page:
        """Return the page with images of that height."""
        cells, given = self.cells(columns), self.look.width
        rows, count = (max(numbers) + 1 for numbers in zip(*cells, strict=True))
        margins = [panel.at(height) for panel in self.margins]
        left, right = ([max(m[side] for m in _of(margins, cells, 1, c)) for c in range(count)] for side in (0, 1))
        above, below = ([max(m[side] for m in _of(margins, cells, 0, r)) for r in range(rows)] for side in (2, 3))
        least = min(self.narrowest, given / count) if given else self.narrowest
        widths = [
            max(least, max(height / shape for shape in _of(self.shapes, cells, 1, c)) + left[c] + right[c] + _GAP)
            for c in range(count)
        ]
        needed = sum(widths)
        if given and needed < given:
            widths = [width + (given - needed) / count for width in widths]
        width = given or max(needed, 5.8 * self.look.points / 9)
        rooms = [_TITLE * (widths[c] - abs(left[c] - right[c])) for c in range(count)]
        rooms = [rooms[c] for _, c in cells]
        titles = _wrapped(self.titles, rooms, self.look)
        tops = [max(self._title_height(title) for title in _of(titles, cells, 0, r)) for r in range(rows)]
        head, foot = self.frame(width)
        heights = [tops[r] + above[r] + height + below[r] + _GAP for r in range(rows)]
        total = head + sum(heights) - _GAP / 2 + foot
        images = []
        for (row, column), shape in zip(cells, self.shapes, strict=True):
            x = (width - sum(widths)) / 2 + sum(widths[:column]) + widths[column] / 2
            x += (left[column] - right[column] - height / shape) / 2
            y = total - head - sum(heights[:row]) - tops[row] - above[row] - height
            images.append((x / width, y / total, height / shape / width, height / total))
        fits = needed <= width + 1e-6
        above = [above[row] for row, _ in cells]
        return Page(width if fits else math.inf, total, head, foot, images, height, above, titles, rooms)

    def _title_height(self, title: tuple[str, str]) -> float:
        sizes = self.look.points, self.look.small
        return 0.06 + _LINE * sum(_lines(text) * size for text, size in zip(title, sizes, strict=True))

    def largest(self, columns: int) -> Page:
        """Return the page with the highest images that fit, if need be of height 0."""
        width = self.look.width
        most = _LARGEST if width is None else (width, _tallest(width))
        scale = self.look.points / 9 * (1.5 if len(self.shapes) == 1 else 1)
        mean = len(self.shapes) / sum(1 / shape for shape in self.shapes)
        low, high = 0.0, min(_PANEL[0] * scale * mean, _PANEL[1] * scale) if width is None else most[1]
        middle = high
        for _ in range(16):
            page = self.page(columns, middle)
            fits = page.width <= most[0] + 1e-6 and page.height <= most[1]
            low, high = (middle, high) if fits else (low, middle)
            middle = (low + high) / 2
        return self.page(columns, low)


def lay_out(
    shapes: Sequence[float],
    titles: Sequence[tuple[str, str]],
    row: int,
    *,
    margins: Sequence[Margins],
    frame: Frame,
    look: Look,
    columns: int | None = None,
) -> Page:
    """Return where panels lie.

    Args:
        shapes: Height of each image, in its widths.
        titles: Title of each panel, and the smaller line below it.
        row: Panels that belong side by side, e.g. the layers of one query.
        margins: Room around each image.
        frame: Heights of head and foot.
        look: Size of type, and the width of the figure.
        columns: Panels in a row; by default as many as can be read.

    Raises:
        SettingsError: there are more panels than a figure of this width can show.
    """
    content = _Content(shapes, titles, row, margins, frame, look)
    page = _best(content, columns)
    if page.smallest < _SMALL * look.points / 7:
        least = [replace(margin, fixed=margin.brief) for margin in margins]
        brief = replace(content, titles=[(title, "") for title, _ in titles], margins=least)
        page = replace(_best(brief, columns), is_brief=True)
    if page.smallest < _LOWEST:
        wide = "" if look.width is None else f" at {look.width:.3g} inches"
        raise SettingsError(
            f"got {len(shapes)} panels, more than can be seen{wide}: choose fewer layers, queries or columns, "
            "or a wider figure"
        )
    return page


def _best(content: _Content, columns: int | None) -> Page:
    """Return the page of so many columns; by default of the usual ones, or others where images are much larger."""
    row, count = content.row, len(content.shapes)
    if columns is not None:
        return content.largest(min(columns, count))
    most = max(int((content.look.width or _LARGEST[0]) / content.narrowest), 1)
    if row > 1:
        usual = min(_MAX_LAYERS, most, row)
        usual = -(-row // -(-row // usual))  # rows as long as each other, but for the last
    else:
        usual = min(_MAX_SQUARE, most, math.ceil(count**0.5))
    more = [bands * row for bands in range(1, most // row + 1) if usual < bands * row <= count]
    even = _without_a_hole(row if row > 1 else count, usual, most)
    pages = [content.largest(columns) for columns in dict.fromkeys((even, usual, *more))]
    if max(page.smallest for page in pages) < _SMALL * content.look.points / 7:
        others = {*range(1, usual), *(-(-row // lines) for lines in range(1, row + 1)), 2 * row, 4 * row}
        pages += [content.largest(columns) for columns in sorted(others) if columns <= count]
    largest = max(page.smallest for page in pages)
    return next(page for page in pages if page.smallest >= 0.8 * largest)


def _without_a_hole(count: int, usual: int, most: int) -> int:
    """Return the number of columns near the usual one, `most` at most, that fills all rows; else the usual one."""
    even = [columns for columns in range(-(-usual // 2), min(usual + 1, most) + 1) if count % columns == 0]
    return min(even, key=lambda columns: (abs(columns - usual), -columns), default=usual)


def _of(items: Sequence[T], cells: Sequence[tuple[int, int]], axis: int, index: int) -> list[T]:
    """Return the items of the panels in a row (axis 0) or column (axis 1)."""
    return [item for item, cell in zip(items, cells, strict=True) if cell[axis] == index]


def _wrapped(titles: Sequence[tuple[str, str]], rooms: Sequence[float], look: Look) -> list[tuple[str, str]]:
    """Return titles, and the lines below them, in lines that fit."""
    return [
        (_wrap(title, int(room * 50) / 50, look.points), _wrap(below, int(room * 50) / 50, look.small))
        for (title, below), room in zip(titles, rooms, strict=True)
    ]


@lru_cache(4096)
def _wrap(text: str, width: float, points: float) -> str:
    return "\n".join(wrap(text, width, points))


def _tallest(width: float) -> float:
    """Return the most height of a figure: of a page's text, or of a slide."""
    return 9.0 if width < 9 else 0.62 * width


def _lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0
