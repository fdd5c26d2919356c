"""Names and files of figures. Each file says what it shows, in its metadata."""

import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from atmviz.errors import SettingsError
from atmviz.events import QUIET, Events
from atmviz.figures.style import Look
from atmviz.files import SOFTWARE, atomic_path, file_name, read_limited

FigureFormat = Literal["png", "pdf", "svg"]
FORMATS: tuple[FigureFormat, ...] = get_args(FigureFormat)
MovingFormat = Literal["mp4", "gif"]
MOVING_BOX = b"atmviz: a figure"
"""The type of the box of an MP4 in which atmviz says what it shows, 16 bytes."""
About = Mapping[str, Any]
"""What a figure shows: network, weights, data and settings, ready for JSON."""

# Of each format: the keys of its metadata for who made a figure and for what it shows
_KEYS: dict[FigureFormat, tuple[str, str]] = {
    "png": ("Software", "Description"),
    "pdf": ("Creator", "Subject"),
    "svg": ("Creator", "Description"),
}
_UNDATED: dict[FigureFormat, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
_OTHER_FORMATS = (".mp4", ".jpg", ".jpeg", ".eps", ".ps", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".csv", ".json")
_MAX_FIGURE_BYTES = 2**28
_MAX_ABOUT_BYTES = 2**20
_MAX_LAYERS = 4  # named in a file name


def fingerprint(about: About) -> str:
    """Return eight hexadecimal digits: other ones for figures that differ in anything that they show."""
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]


def weights_name(model: str, trained: bool | None, sha: str) -> str:
    """Return a name that tells weights apart, like `atmnet_large-8cf39f`; of random ones, that of the network."""
    name = re.sub(r"\W+", "-", model).strip("-")  # semantic_fpn(atmnet_nano): no brackets
    return name if trained is False else f"{name}-{sha[:6]}"


def figure_name(subject: str, kind: str, weights: str, layers: Sequence[str], about: About) -> str:
    """Return a file name like `photos_atmnet_nano-8cf39f_histogram_2_1-3_18_0123abcd`, of at most 180 bytes.

    Args:
        subject: Name of the images; any text, cut where the rest needs the room.
        kind: "histogram" or "overlay".
        weights: See `weights_name`.
        layers: Names of the layers shown.
        about: All that the figure shows; the name ends in its fingerprint.
    """
    shown = "-".join(layers) if len(layers) <= _MAX_LAYERS else f"{len(layers)}-layers"
    rest = "_".join(["", file_name(weights, 60), kind, file_name(shown, 40), fingerprint(about)])
    return file_name(subject, 180 - len(rest.encode())) + rest


def figure_files(out: str | Path, name: str, formats: Sequence[FigureFormat] | None = None) -> list[Path]:
    """Return the files of a figure.

    Args:
        out: A file with the suffix of a format, or a folder.
        name: Name of the figure in a folder.
        formats: Formats in a folder; PNG for None.

    Raises:
        SettingsError: the file has another suffix, or formats are given for a file.
    """
    path = Path(out)
    if str(out).endswith(("/", "\\")) or path.is_dir() or path.suffix.lower()[1:] not in FORMATS:
        if path.suffix.lower() in _OTHER_FORMATS and not path.is_dir():
            raise SettingsError(f"got out {path}, expected a folder, or a file ending in .png, .pdf or .svg")
        return [path / f"{name}.{kind}" for kind in formats or ("png",)]
    if formats:
        raise SettingsError(f"got out {path} and formats {', '.join(formats)}: name a folder, or leave the formats out")
    return [path]


def require_own(files: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """Return what those of the files that exist say of themselves; raise SettingsError for one not of atmviz."""
    earlier = {file: read_about(file) for file in files if file.exists()}
    if foreign := [file for file, said in earlier.items() if said is None]:
        raise SettingsError(f"{foreign[0]} exists and is no figure of atmviz: choose another name")
    return {file: said for file, said in earlier.items() if said}


def save_figure(
    figure: Figure,
    files: Sequence[Path],
    about: About | None = None,
    *,
    look: Look | None = None,
    command: str = "",
    events: Events = QUIET,
) -> list[Path]:
    """Write a figure into files, all of them or none, and return these. Only figures of atmviz are replaced.

    Args:
        figure: The figure.
        files: Each ends in .png, .pdf or .svg.
        about: What it shows, kept in the metadata; see `read_about`.
        look: How it was drawn.
        command: The command that drew it.
        events: Receives which figures of other settings were replaced.

    Raises:
        SettingsError: a file exists that is no figure of atmviz.
    """
    earlier = require_own(files)
    look = look or Look.of()
    said = {**({"command": command} if command else {}), "shows": about} if about else None
    with ExitStack() as stack, look.applied():
        for file in files:
            kind: Any = file.suffix.lower()[1:]
            maker, description = _KEYS[kind]
            metadata: dict[str, Any] = {maker: SOFTWARE, **_UNDATED[kind]}  # the same figure has the same bytes
            if said:
                metadata[description] = json.dumps(said)
            temporary = stack.enter_context(atomic_path(file))
            figure.savefig(temporary, format=kind, metadata=metadata)
            if kind == "svg":
                _number_clips(temporary)
    say_replaced(earlier, about, events)
    return list(files)


def _number_clips(file: Path) -> None:
    """Number the clipping paths of an SVG: matplotlib names some of them by their place in memory."""
    text = file.read_text(encoding="utf-8")
    clips, numbers = set(re.findall('<clipPath id="(p[0-9a-f]{10})">', text)), dict[str, str]()

    def number(match: re.Match[str]) -> str:
        name = match[0]
        return numbers.setdefault(name, f"clip{len(numbers)}") if name in clips else name

    numbered = re.sub(r"\bp[0-9a-f]{10}\b", number, text)
    file.write_text(numbered, encoding="utf-8", newline="\n")


def shows_else(said: Mapping[str, Any], about: About | None) -> bool:
    """Return whether a file, by what it says of itself, shows something else."""
    return said.get("shows") != json.loads(json.dumps(about))


def say_replaced(earlier: Mapping[Path, Mapping[str, Any]], about: About | None, events: Events) -> None:
    """Say which of the files that were replaced showed something else; `earlier` is from `require_own`."""
    for file, before in earlier.items():
        if shows_else(before, about):
            events.message(f"replaced {file}, which showed something else")


def moving_about(about: About, command: str = "") -> bytes:
    """Return what a moving picture says of itself: the start is that of a PNG's text, by which sources know figures."""
    said = {**({"command": command} if command else {}), "shows": about}
    return f"Software\0{SOFTWARE}\0{json.dumps(said)}".encode()


def read_about(path: Path) -> dict[str, Any] | None:
    """Return what a figure says of itself: "software", "command" and what it "shows".

    Returns:
        None for a file that is no figure of atmviz; only "software" for a figure that does not say more.

    Raises:
        OSError: the file cannot be read.
    """
    readers = {".png": _read_png, ".pdf": _read_pdf, ".svg": _read_svg, ".gif": _read_gif, ".mp4": _read_mp4}
    read = readers.get(path.suffix.lower())
    maker, description = read(path) if read else ("", "")
    if not maker.startswith(f"{SOFTWARE.split()[0]} "):
        return None
    try:
        said = json.loads(description or "{}")
    except (ValueError, RecursionError):
        said = {}
    return {"software": maker, **(said if isinstance(said, dict) else {})}


def _read_png(path: Path) -> tuple[str, str]:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            texts = {key: value for key, value in image.info.items() if isinstance(value, str)}
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "", ""
    maker, description = _KEYS["png"]
    return texts.get(maker, ""), texts.get(description, "")


def _read_pdf(path: Path) -> tuple[str, str]:
    content = read_limited(path, _MAX_FIGURE_BYTES).decode("latin-1")
    texts = (re.search(rf"/{key} \(((?:[^\\()]|\\.)*)\)", content, re.DOTALL) for key in _KEYS["pdf"])
    maker, description = (re.sub(r"\\(.)", r"\1", match[1]) if match else "" for match in texts)
    return maker, description


def _read_svg(path: Path) -> tuple[str, str]:
    content = read_limited(path, _MAX_FIGURE_BYTES).decode("utf-8", "replace")[: 10**6]  # metadata stands first
    maker = re.search(r"<dc:creator>\s*<cc:Agent>\s*<dc:title>([^<]*)</dc:title>", content)
    description = re.search(r"<dc:description>([^<]*)</dc:description>", content)
    return html.unescape(maker[1]) if maker else "", html.unescape(description[1]) if description else ""


def _read_gif(path: Path) -> tuple[str, str]:
    try:
        with Image.open(path, formats=["GIF"]) as image:
            return _moving_texts(image.info.get("comment", b""))
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "", ""


def _read_mp4(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[:4], "big")
            size, read = (int.from_bytes(file.read(8), "big"), 16) if size == 1 else (size, 8)
            if head[4:] == b"uuid" and file.read(16) == MOVING_BOX:
                return _moving_texts(file.read(min(max(size - 24, 0), _MAX_ABOUT_BYTES)))
            if size < read:
                break
            file.seek(size - read - 16 * (head[4:] == b"uuid"), os.SEEK_CUR)
    return "", ""


def _moving_texts(about: bytes) -> tuple[str, str]:
    """Return who made a moving picture, and what it says of itself; see `moving_about`."""
    key, _, rest = about.decode("utf-8", "replace").partition("\0")
    maker, _, description = rest.partition("\0")
    return (maker, description) if key == "Software" else ("", "")
