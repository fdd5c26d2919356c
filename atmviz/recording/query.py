"""Queries: the token whose offsets are shown. Torch-free."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Literal

from atmviz.errors import QueryError, describe
from atmviz.geometry import Anchor, Placement, token_at_px

FORMS = (
    "center, X,Y in px (120,80), fractions of the image (0.3,0.6), ROW:COL in tokens (4:7), grid:4x4, random:8 or "
    "path:0.2,0.5;0.8,0.5"
)
PATH = "path:"
"""How a query that walks begins; points of the image, fractions, follow."""
_STEPS, _MOST_POINTS = 25, 100  # of a path: steps from each point to the next, and points


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        kind: "center", "px" (x, y in original pixels), "image" and "input" (fractions x, y of the image, or of what
            the network sees of it), "token" (row, column).
        first, second: The two numbers, in the order of `kind`.
    """

    kind: Literal["center", "px", "image", "input", "token"]
    first: float = 0
    second: float = 0

    def __str__(self) -> str:
        if self.kind == "center":
            return "center"
        if self.kind == "token":
            return f"{self.first:.0f}:{self.second:.0f}"
        return f"{self.first:g},{self.second:g}" if self.kind == "px" else f"{self.first:.3g},{self.second:.3g}"

    def token(
        self, placement: Placement, grid: tuple[int, int], stride_px: tuple[int, int], anchor: Anchor = "cell"
    ) -> tuple[int, int]:
        """Return the query token (i, j) on a grid (H, W) of tokens `stride_px` (vertical, horizontal) apart.

        Raises:
            QueryError: it lies outside the image, outside what the network sees of it, or outside the grid.
        """
        if self.kind == "center":
            return grid[0] // 2, grid[1] // 2
        if self.kind == "token":
            i, j = int(self.first), int(self.second)
            if not (0 <= i < grid[0] and 0 <= j < grid[1]):
                raise QueryError(
                    f"query token {self} is outside a map of {grid[0]} x {grid[1]} tokens: "
                    f"expected rows 0 to {grid[0] - 1}, columns 0 to {grid[1] - 1}"
                )
            return i, j
        y, x = self._input_px(placement)
        return token_at_px(y, stride_px[0], anchor, grid[0]), token_at_px(x, stride_px[1], anchor, grid[1])

    def point_px(self, placement: Placement) -> tuple[float, float] | None:
        """Return the exact point (y, x) in input pixels; None for a query that names a token.

        Raises:
            QueryError: it lies outside the image, or outside what the network sees of it.
        """
        if self.kind == "token":
            return None
        if self.kind == "center":
            return (placement.size[0] - 1) / 2, (placement.size[1] - 1) / 2
        return self._input_px(placement)

    def _input_px(self, placement: Placement) -> tuple[float, float]:
        """Return (y, x) in input pixels."""
        if self.kind == "input":
            return self.second * placement.size[0] - 0.5, self.first * placement.size[1] - 0.5
        height, width = placement.image
        x, y = self.first, self.second
        if self.kind == "image":
            x, y = x * width - 0.5, y * height - 0.5
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise QueryError(f"query {self} is outside the image: expected x 0-{width - 1}, y 0-{height - 1} px")
        y, x = placement.to_input(y, x)
        if not (-0.5 <= x <= placement.size[1] - 0.5 and -0.5 <= y <= placement.size[0] - 0.5):
            raise QueryError(f"query {self} is outside the center crop of the network: choose fit whole or squash")
        return y, x


def query_text(query: str | Sequence[float]) -> str:
    """Return a query as text; x and y may be a pair of numbers, (0.3, 0.6).

    Raises:
        QueryError: it is neither.
    """
    if isinstance(query, str):
        return query
    if _is_pair(query):
        return f"{query[0]},{query[1]}"
    raise QueryError(f"got query {describe(query)}, expected {FORMS}")


def query_texts(queries: str | Sequence[float] | Sequence[str | Sequence[float]]) -> tuple[str, ...]:
    """Return queries as texts, one alone as the only one of several.

    Raises:
        QueryError: a query is neither a text nor a pair of numbers, or has none of the known forms.
    """
    is_list = isinstance(queries, Sequence) and not isinstance(queries, str) and not _is_pair(queries)
    texts = tuple(query_text(query) for query in (queries if is_list else [queries]))  # type: ignore[arg-type]
    for text in texts:
        parse_queries(text)
    return texts


def recorded_query(query: str | Sequence[float]) -> str:
    """Return the query of a recording as text; raise QueryError if it is not one token for all images."""
    text = query_text(query).strip().lower()
    fixed_query(text)
    return text


def _is_pair(query: Any) -> bool:
    return isinstance(query, Sequence) and len(query) == 2 and all(isinstance(number, Real) for number in query)


def parse_queries(text: str, seed: int = 0) -> list[Query]:
    """Read one query text; grids, random draws and paths (25 steps from point to point) give several queries.

    Raises:
        QueryError: the text has none of the known forms.
    """
    number = r"(-?\d{1,6}(?:\.\d*)?|-?\.\d+)"
    given, text = text, text.strip().lower()
    if text.startswith(PATH):
        return _walk(given, text.removeprefix(PATH).split(";"))
    if text in ("center", "centre"):
        return [Query("center")]
    if match := re.fullmatch(rf"{number},{number}", text.replace(" ", "")):
        x, y = float(match[1]), float(match[2])
        fractions = "." in text and min(x, y) >= 0 and max(x, y) <= 1
        if "." in text and (min(x, y) < 0 or 1 < max(x, y) < 2):
            raise QueryError(f"query {text} is outside the image: expected fractions from 0 to 1, or pixels from 0 on")
        return [Query("image" if fractions else "px", x, y)]
    if match := re.fullmatch(r"(\d{1,6}):(\d{1,6})", text):
        return [Query("token", int(match[1]), int(match[2]))]
    if (match := re.fullmatch(r"grid:(\d{1,3})x(\d{1,3})", text)) and int(match[1]) and int(match[2]):
        rows, columns = int(match[1]), int(match[2])
        return [Query("input", (c + 0.5) / columns, (r + 0.5) / rows) for r in range(rows) for c in range(columns)]
    if (match := re.fullmatch(r"random:(\d{1,4})", text)) and int(match[1]):
        draw = random.Random(seed)
        return [Query("input", draw.random(), draw.random()) for _ in range(int(match[1]))]
    raise QueryError(f"no query {given!r}: expected {FORMS}")


def _walk(given: str, points: Sequence[str]) -> list[Query]:
    """Return the queries of a path through points: equally many on each straight part, then the last point."""
    read = [parse_queries(point)[0] for point in points if "," in point]
    is_inside = all(0 <= number <= 1 for p in read for number in (p.first, p.second))  # "0,1" too is a fraction
    if not (2 <= len(read) == len(points) <= _MOST_POINTS and is_inside):
        raise QueryError(
            f"got query {describe(given)}, expected 2 to {_MOST_POINTS} points in fractions of the image: "
            "path:0.2,0.5;0.8,0.5"
        )
    parts = [
        Query("image", *(a + (b - a) * step / _STEPS for a, b in ((p.first, q.first), (p.second, q.second))))
        for p, q in pairwise(read)
        for step in range(_STEPS)
    ]
    return [*parts, Query("image", read[-1].first, read[-1].second)]


def fixed_query(text: str) -> Query:
    """Read a query that is the same token in every image of a dataset: center, fractions of the input, or ROW:COL."""
    query, *others = parse_queries(text)
    if others or query.kind in ("px", "input"):
        reason = "is another token in images of another size" if query.kind == "px" else "is for several tokens"
        raise QueryError(
            f"query {text} cannot be recorded, because it {reason}: expected center, fractions (0.3,0.6) or ROW:COL in "
            "tokens"
        )
    return Query("input", query.first, query.second) if query.kind == "image" else query
