"""What a figure, a page, a recording or a checkpoint says of itself."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from atmviz.errors import AtmvizError, require_type
from atmviz.files import BUNDLED_CHECKPOINTS, find_checkpoint, near_path
from atmviz.hub import is_hub_address
from atmviz.recording.array_files import is_recording

_FIGURES = (".png", ".pdf", ".svg", ".mp4", ".gif")


def inspect(path: str | Path) -> dict[str, Any]:
    """Return what a file or folder says of itself, ready for JSON; nothing in it is run.

    Args:
        path: A figure that atmviz drew, a page of the explorer, a recording, a run folder, a checkpoint, the name of a
            bundled one, or an address on the Hub.

    Returns:
        "kind" ("figure", "page", "recording" or "checkpoint"), "path", and what is known: of a figure or a page the
        command that made it and what it shows, of a recording its network, images and settings, of a checkpoint its
        network and origin.

    Raises:
        AtmvizError: the path is none of these.
    """
    require_type(path, str | Path, "a path", "a figure, a page, a recording or a checkpoint")
    if is_hub_address(path):
        return {"kind": "checkpoint", "path": str(path), **_checkpoint(path)}
    path = Path(path)
    if path.suffix.lower() in _FIGURES and path.is_file():
        return _of_kind("figure", path, _figure(path))
    if path.suffix.lower() in (".html", ".htm") and path.is_file():
        from atmviz.explorer.page import read_page

        return _of_kind("page", path, {"made_by": "atmviz explore", **read_page(path)})
    if is_recording(path):
        return {"kind": "recording", "path": str(path), **_recording(path)}
    if not path.exists() and str(path) not in BUNDLED_CHECKPOINTS:
        raise AtmvizError(
            f"no file or folder {path}: expected a figure, a page, a recording or a checkpoint{near_path(path)}"
        )
    best = path / "best.safetensors"
    file = find_checkpoint(best if best.is_file() else path)
    return {"kind": "checkpoint", "path": str(file), **_checkpoint(file)}


def _of_kind(kind: str, path: Path, said: dict[str, Any]) -> dict[str, Any]:
    """Put kind and path before what a file says, which cannot change them."""
    return {**(known := {"kind": kind, "path": str(path)}), **said, **known}


def _figure(path: Path) -> dict[str, Any]:
    from atmviz.figures.saving import read_about

    said = read_about(path)
    if said is None:
        raise AtmvizError(f"{path} is no figure of atmviz, which says what it shows: choose one that atmviz drew")
    return said


def _recording(path: Path) -> dict[str, Any]:
    from atmviz.recording.store import open_recording

    recording = open_recording(path)
    attrs = recording.attrs
    keys = ("checkpoint", "preprocessing", "precision", "query", "image_root", "sampling", "versions")
    about = {key: attrs.get(key) for key in keys}
    quantities = {name: f"{quantity.description}, {quantity.unit}" for name, quantity in recording.quantities.items()}
    return {**recording.summary(), **about, "quantities": quantities}


def _checkpoint(path: str | Path) -> dict[str, Any]:
    from atmviz.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(path)
    parameters = sum(tensor.numel() for tensor in checkpoint.state.values())
    origin = {
        name: value for name, value in asdict(checkpoint.origin).items() if name != "matched"
    }  # no network is built
    return {**origin, "tensors": len(checkpoint.state), "values": parameters}
