"""A folder for the Hugging Face Hub: weights as safetensors, the configuration as timm reads it, and a model card."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from atmviz.architecture import Architecture, Task
from atmviz.checkpoints.averaged import WeightChoice
from atmviz.checkpoints.load import build
from atmviz.checkpoints.origin import Checkpoint, Origin, origin_of
from atmviz.checkpoints.read import read_checkpoint
from atmviz.checkpoints.write import write_converted
from atmviz.errors import SettingsError, count, join_limited, printable, require_type
from atmviz.files import SOFTWARE, check_writable, sha256_of_file, temporary_folder
from atmviz.hub import is_hub_address, push_folder, require_repository
from atmviz.paper import BIBTEX
from atmviz.recording.store import Recording, open_recording
from atmviz.statistics.claims import claims_of
from atmviz.variants import VARIANTS
from atmviz.views.claims import describe_size, printed_claims

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
"""The files, by the names that timm and the Hub look for."""
_PIPELINES: dict[Task, str] = {
    "classify": "image-classification",
    "segment": "image-segmentation",
    "detect": "object-detection",
}
_SHOWN_CLASSES = 20


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        folder: The folder.
        origin: Where the weights came from.
        sha256: Hash of the file of weights.
        url: The repository on the Hub; None where nothing was pushed.
    """

    folder: Path
    origin: Origin
    sha256: str
    url: str | None = None

    @property
    def files(self) -> list[Path]:
        """The files in the folder."""
        return [self.folder / name for name in (WEIGHTS, CONFIG, CARD)]


def publish(
    source: str | Path,
    out: str | Path,
    *,
    weights: WeightChoice | None = None,
    recording: Recording | str | Path | None = None,
    license: str | None = None,
    push: str | None = None,
) -> Published:
    """Write a checkpoint into a folder as the Hub expects it; send it there only if a repository is named.

    Paths of the machine that trained are left out of the file and of the card.

    Args:
        source: The folder of a training run, whose best weights are taken; or what `load_model` reads from a file.
        out: A folder that is empty or not there yet.
        weights: "ema" or "model"; None takes averaged weights where the file has them.
        recording: A recording by these weights, whose claims become a table of the card.
        license: The license of the weights as the Hub names it, e.g. "mit"; not stated without it.
        push: A repository `user/repo`, which is made if need be; by the token of huggingface_hub.

    Raises:
        SettingsError: the folder is not empty, the recording is of other weights, or `push` names no repository.
        CheckpointError: the checkpoint cannot be read, or the repository cannot be written.
        RecordingFormatError: the recording is damaged or empty.
    """
    require_type(source, str | Path, "a source", "the folder of a training run, or a checkpoint")
    require_type(out, str | Path, "out", "a folder")
    require_type(license, str | None, "license", 'the name of one, as "mit"')
    out, repo = Path(out), None if push is None else require_repository(push)
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"{out} exists and is not empty: choose another folder, or remove it")
    check_writable(out)
    best = Path(source) / "best.safetensors"
    checkpoint = read_checkpoint(best if best.is_file() else source, weights)
    network = build(checkpoint)
    checkpoint = replace(checkpoint, origin=_without_paths(origin_of(network)))
    origin, parameters = checkpoint.origin, sum(each.numel() for each in network.parameters())
    recorded = None if recording is None else _recording_of(recording, origin)
    with temporary_folder(out.parent) as folder:
        write_converted(folder / WEIGHTS, checkpoint, _name_of(source, origin))
        sha256 = sha256_of_file(folder / WEIGHTS)
        config = _config(network, checkpoint)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        facts = {"parameters": f"{parameters:,}", "file": f"`{WEIGHTS}`, SHA-256 `{sha256}`"}
        card = _card(origin, facts, "pretrained_cfg" in config, license, repo, recorded)
        (folder / CARD).write_text(card, encoding="utf-8", newline="\n")
        out.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, CONFIG, CARD):
            (folder / name).replace(out / name)
    url = push_folder(out, repo) if repo else None
    return Published(out, origin, sha256, url)


def _name_of(source: str | Path, origin: Origin) -> str:
    """Return what the weights are converted from: an address by its commit, or a name without its folder."""
    if is_hub_address(source):
        return str(origin.path)
    return os.fsencode(Path(source).name).decode("utf-8", "replace")


def _without_paths(origin: Origin) -> Origin:
    """Leave the folders of the machine that trained out of the recipe."""
    info = dict(origin.training_info)
    if recipe := dict(info.get("recipe") or {}):
        recipe.pop("data_dir", None)
        if (begun := recipe.get("finetune")) and not is_hub_address(begun):
            recipe["finetune"] = PureWindowsPath(str(begun)).name  # of either system
        info["recipe"] = recipe
    return replace(origin, training_info=info)


def _recording_of(recording: Recording | str | Path, origin: Origin) -> Recording:
    """Open a recording; raise SettingsError if it is of other weights."""
    opened = open_recording(recording)
    identity = opened.attrs["checkpoint"]
    if (identity["sha256"], identity.get("weights")) != (origin.sha256, origin.weights):
        raise SettingsError(
            f"{opened.path} was recorded with other weights (SHA-256 {identity['sha256'][:12]}, these are "
            f"{origin.sha256[:12]}): record with these"
        )
    return opened


def _config(network: Any, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return config.json: as timm writes it for a classifier, else the network's name and settings."""
    origin = checkpoint.origin
    info, settings = origin.training_info, dict(origin.config)
    if origin.model not in VARIANTS or "head.fc.weight" not in checkpoint.state:
        return {"library_name": "atmviz", "architecture": origin.model, "config": settings, "made_by": SOFTWARE}
    classes = settings.pop("num_classes")
    known = {name: value for name, value in network.pretrained_cfg.items() if name not in ("custom_load", "pool_size")}
    size = info.get("image_size", known["input_size"][-1])
    known |= {"num_classes": classes, "input_size": [settings.get("in_chans", 3), size, size]}
    known |= {"crop_pct": info.get("crop_pct", known["crop_pct"])}
    return {
        "architecture": known.pop("architecture"),
        "num_classes": classes,
        "num_features": network.num_features,
        **({"label_names": info["classes"]} if "classes" in info else {}),
        **({"model_args": settings} if settings else {}),
        "pretrained_cfg": known,
        "made_by": SOFTWARE,
    }


def _card(
    origin: Origin,
    facts: Mapping[str, str],
    is_timm: bool,
    license: str | None,
    repo: str | None,
    recording: Recording | None,
) -> str:
    """Return the model card."""
    head = {
        "library_name": "timm" if is_timm else "atmviz",
        "pipeline_tag": _PIPELINES[Architecture.parse(origin.model).task],
        **({"license": license} if license else {}),
        "tags": ["atmviz", "atmnet", *(["timm"] if is_timm else [])],
    }
    weights = {"ema": ", averaged (EMA) weights", "model": "", None: ""}[origin.weights]
    facts = {
        "network": _code(origin.model),
        **facts,
        "made from": f"SHA-256 `{origin.sha256}`, {origin.layout} layout{weights}",
        "license": _code(license) if license else "not stated",
        "made by": SOFTWARE,
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# {printable(origin.model)}",
        _table(["", ""], facts.items()),
        "## Use\n\n" + _usage(is_timm, repo or "USER/REPO"),
        "## Training data\n\n" + _data(origin.training_info),
        "## Results\n\n" + _results(origin.training_info),
    ]
    if recording is not None:
        parts.append("## Where it looks\n\n" + _claims(recording))
    if recipe := origin.training_info.get("recipe"):
        text = yaml.safe_dump(recipe, width=1000, sort_keys=False).replace("`", "'")
        parts.append(f"## Recipe\n\n```yaml\n{text}```")
    return "\n\n".join([*parts, f"## Cite\n\n```bibtex\n{BIBTEX}```\n"])


def _usage(is_timm: bool, repo: str) -> str:
    lines = ["import atmviz.models", f'network = atmviz.load_model("hf://{repo}")']
    if is_timm:
        lines += ["", "import timm", f'network = timm.create_model("hf-hub:{repo}", pretrained=True)']
    code = "\n".join(lines)
    return f"With `pip install atmviz`{', which registers it with timm' if is_timm else ''}:\n\n```python\n{code}\n```"


def _data(info: Mapping[str, Any]) -> str:
    if "dataset" not in info:
        return "The file does not say what the network was trained on."
    recipe = info.get("recipe") or {}
    begun = recipe.get("finetune")
    text = f"Fine-tuned from {_code(begun)} on" if begun else "Trained on"
    text += f" {_code(info['dataset'])}"
    if isinstance(images := recipe.get("train_images"), int):
        text += f", {count(images, 'image')} an epoch"
    if "image_size" in info:
        text += f", at {info['image_size']} px"
    classes = [_code(name) for name in info.get("classes", ())]
    noun = "class" if len(classes) == 1 else "classes"
    listed = f" {len(classes):,} {noun}: {join_limited(classes, _SHOWN_CLASSES)}."
    return f"{text}.{listed if classes else ''}"


def _results(info: Mapping[str, Any]) -> str:
    metrics = {name.removeprefix("val_"): value for name, value in info.items() if name.startswith("val_")}
    rows = [(_code(name), f"{value:.4g}") for name, value in metrics.items() if value is not None and value == value]
    if not rows:
        return "The file holds no results."
    epoch = f", epoch {info['epoch']:g}" if isinstance(info.get("epoch"), int | float) else ""
    table = _table(["metric", "value"], rows)
    return f"On the validation images of the run{epoch}, in percent, except the loss:\n\n{table}"


def _claims(recording: Recording) -> str:
    table = printed_claims(claims_of(recording))
    size = describe_size(recording)
    about = (
        f"Claims about the offsets on {count(len(recording), 'image')} of {_code(recording.attrs['dataset'])}, {size}. "
        "Effects are estimates less their null, with 95 % intervals over images; p is corrected by Holm."
    )
    rows = [
        [_code(cell) if name == "layer" else cell for name, cell in row.items()] for row in table.to_dict("records")
    ]
    return f"{about}\n\n{_table(list(table), rows)}"


def _code(text: object) -> str:
    """Return any text as code, which Markdown does not interpret."""
    return "`" + printable(str(text)).replace("`", "'").replace("|", "¦") + "`"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
