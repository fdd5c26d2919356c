"""Pages: HTML files that ask for nothing else; and how that of the explorer is put together. Torch-free."""

import hashlib
import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from atmviz.errors import SettingsError, count, reason_of, require_type, shorten
from atmviz.explorer.settings import MAX_BYTES
from atmviz.files import SOFTWARE, atomic_path, check_writable, read_limited, read_start

_MARK = '<meta name="generator" content="atmviz '
_HEAD_BYTES = 4096
_HEADER_START = b'<script type="application/json" id="header">'
_IFRAME_PX = 900
_SCRIPTS = ("offsets", "text", "image", "matrix", "histogram", "links", "view", "gestures", "export", "controls")


@dataclass(frozen=True)
class Page:
    """A web page. Notebooks show it as the value of a cell.

    Attributes:
        html: The page.
        numbers: What it holds, ready for JSON.
    """

    html: str
    numbers: Mapping[str, Any]

    def __repr__(self) -> str:
        """Return one line, where a terminal shows a value."""
        return f"<{type(self).__name__} of {len(self.html.encode()):,} bytes; save(path) writes it>"

    def save(self, path: str | Path) -> Path:
        """Write the page into a file, and return its path; only pages of atmviz are replaced.

        Raises:
            SettingsError: see `require_page`.
        """
        path = require_page(path)
        with atomic_path(path) as temporary:
            temporary.write_text(self.html, encoding="utf-8", newline="\n")
        return path

    def _repr_html_(self) -> str:
        """Return an iframe with the page."""
        page, title = html.escape(self.html, quote=True), f"atmviz {type(self).__name__.lower()}"
        return f'<iframe srcdoc="{page}" width="100%" height="{_IFRAME_PX}" title="{title}"></iframe>'


class Explorer(Page):
    """A page of the explorer; `numbers` are models, images, layers, bytes and what was left out."""


def require_page(path: str | Path) -> Path:
    """Return the path of a page that can be written.

    Raises:
        SettingsError: another suffix than .html, or a file that is no page of atmviz.
        AtmvizError: a folder that cannot be written to.
    """
    require_type(path, str | Path, "out", "a file ending in .html")
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise SettingsError(f"got out {path}, expected a file ending in .html")
    if path.exists() and not _is_page(path):
        raise SettingsError(f"{path} exists and is no page of atmviz: choose another name")
    check_writable(path)
    return path


def refuse_pages(sources: Iterable[Any]) -> None:
    """Raise SettingsError for a page of the explorer among what is to be shown."""
    for path in sources:
        if isinstance(path, str | Path) and str(path).lower().endswith((".html", ".htm")) and _is_page(Path(path)):
            raise SettingsError(
                f"got {path}, which is a page of the explorer, expected a recording or images: open the page in a "
                "browser; inspect says what it was made of"
            )


def read_page(path: str | Path) -> dict[str, Any]:
    """Return what a page says of itself: "software", "command", and what it holds, see `Explorer.numbers`.

    Raises:
        SettingsError: the file is no page of the explorer, or larger than any.
    """
    path = Path(path)
    try:
        page = read_limited(path, MAX_BYTES) if _is_page(path) else b""
        header = json.loads(page.partition(_HEADER_START)[2].partition(b"</script>")[0])
        models = [model["name"] for model in header["models"]]
        return {"software": header["software"], "command": header["command"], **header["about"], "models": models}
    except OSError as error:
        raise SettingsError(f"cannot read {path} ({reason_of(error)}), expected a page of the explorer") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SettingsError(
            f"{path} is no page of the explorer, which says what it holds: make it again; a report says it in a browser"
        ) from None


def _is_page(path: Path) -> bool:
    try:
        return _MARK.encode() in read_start(path, _HEAD_BYTES)
    except OSError:
        return False


def assemble(header: Mapping[str, Any], offsets: Sequence[Sequence[str]], still: str) -> str:
    """Return a page.

    Args:
        header: All but the offsets; texts in it may hold anything.
        offsets: Of each model, those of each image, see `data.pack`.
        still: Markup for readers without scripts.
    """
    script = '(() => {\n"use strict";\n' + "".join(_asset(f"script/{name}.js") for name in _SCRIPTS) + "})();"
    script = re.sub(r"\s*(\s// .*|/\*.*\*/)?$\s*", "\n", script, flags=re.MULTILINE)  # no comments, no indents
    style = _asset("explorer.css")
    policy = content_policy(style, f"img-src data: blob:; script-src '{_digest(script)}'; ")
    blobs = "\n".join(
        f'<script type="application/gzip" id="m{m}i{i}">{text}</script>'
        for m, texts in enumerate(offsets)
        for i, text in enumerate(texts)
    )
    parts = {
        "generator": SOFTWARE,
        "policy": policy,
        "style": style,
        **_words(header),
        "still": still,
        "header": json.dumps(header, separators=(",", ":")).replace("<", "\\u003c"),
        "offsets": blobs,
        "script": script,
    }
    return fill(_asset("explorer.html"), parts)


def fill(body: str, parts: Mapping[str, str]) -> str:
    """Return a page: the head of all pages and a body, with markup in place of each `@name@`."""
    return re.sub(r"@(\w+)@", lambda match: parts[match[1]], _asset("head.html") + body)


def content_policy(style: str, allowed: str) -> str:
    """Return a content security policy that forbids requests; `allowed` adds what else a page may do."""
    return f"default-src 'none'; {allowed}style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"


def _words(header: Mapping[str, Any]) -> dict[str, str]:
    """Return the markup of texts that do not change while a page is looked at."""
    names = [model["name"] for model in header["models"]]
    named = [f"{letter}: {name}" for letter, name in zip("AB", names, strict=False)] if len(names) > 1 else names
    images, (height, width) = header["images"], header["size"]
    held = f"{len(images)} of {count(header['of'], 'image')} of {shorten(header['dataset'], 40)}, {height} × {width} px"
    reduced = f"To stay small, this page holds less: {'; '.join(header['reduced'])}." if header["reduced"] else ""
    has_intervals = any(interval[0] for each in header["sources"].values() for interval in each["interval"])
    bars = " Lines: 95 % interval over images." * has_intervals
    bars += " Dashed, where models are compared: the other model." * (len(names) > 1)
    compares = '<option>split</option><option value="side">side by side</option><option>blink</option>'
    fusion = [weights for model in header["models"] for weights in model["fusion"].values()]
    return {
        "bars": bars,
        "pair": " hidden" * (len(names) < 2),
        "compares": f'{compares}<option value="diff">B − A</option>' * (len(names) > 1),
        "contribution": " disabled" * (not all(fusion)),
        "outlines": " hidden" * (not any(image["outlines"] for image in images)),
        "points": " hidden" * all(site["kind"] != "point" for site in header["sites"]),
        "thumbs": " hidden" * (len(images) < 2),
        "rows": str(len(header["sites"])),
        "title": html.escape(", ".join(named)),
        "about": html.escape(f"{held}; {header['software']}"),
        "reduced": f'<p id="reduced">{html.escape(reduced)}</p>' if reduced else "",
        "images": _options(shorten(image["name"], 40) for image in images),
        "models": _options(names),
        "layers": _options(site["label"] for site in header["sites"]),
        "palettes": "".join(f"<option>{name}</option>" for name in header["palettes"]),
        "parts": _parts(header),
        "input": f"{height} × {width}",
        "of_parts": f"Told by {count(header['of_parts'], 'image')} and model {names[0]}." * (header["of_parts"] > 0),
    }


def _parts(header: Mapping[str, Any]) -> str:
    """Return the orders by content share and role; they are off where a single image does not tell these."""
    off, why = ("", "") if header["of_parts"] else (" disabled", " (needs 2 images)")
    orders = {"content": "content share", "role": "role"}
    return "".join(f'<option value="{value}"{off}>{text}{why}</option>' for value, text in orders.items())


def _options(texts: Iterable[str]) -> str:
    return "".join(f'<option value="{value}">{html.escape(text)}</option>' for value, text in enumerate(texts))


def _asset(name: str) -> str:
    return resources.files("atmviz.explorer").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
