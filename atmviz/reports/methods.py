r"""A paragraph on methods to paste into a paper, in LaTeX, with the references. Torch-free.

Every number comes from the recording. Definitions are those of docs/definitions/.
"""

import re
from collections.abc import Sequence
from importlib import resources

from atmviz.errors import count, printable
from atmviz.paper import BIBTEX
from atmviz.recording.label_quantities import GROUPS
from atmviz.recording.store import Recording
from atmviz.reports.captured import TRAINED, fitted, letters_of
from atmviz.statistics.adaptivity import DEFINITION as SHARES
from atmviz.statistics.claims import generating_sites, samples_of
from atmviz.statistics.comparison import DEFINITION as DISTANCE
from atmviz.statistics.intervals import DRAWS, MIN_IMAGES
from atmviz.statistics.measures import DEFINITIONS, SIGNIFICANT
from atmviz.statistics.reach import DEFINITION as QUANTILES
from atmviz.views.latex import latex_text

_UNTRAINED = r"that of the untrained network, $0.02\sqrt{2C/\pi}$ tokens in a layer of $C$ channels"
FORMULAS = {
    "growth": (f"mean $|o|$ over {_UNTRAINED}", "1"),
    "trend_growth": (r"Kendall's $\tau$~\cite{kendall1938new} of growth in depth, averaged over images", "0"),
    "mirror_gap": (
        r"$H(o) - H(-o)$, where $H$ is the share of moved samples whose nearest token belongs to the object of their "
        "own token; positions outside the map are misses",
        "the same with another image's offsets",
    ),
    "elasticity": (
        r"slope of log mean $|o|$ on an object in its log scale, with a constant for each image, over objects of 4 "
        "tokens or more",
        "the same tokens with another image's offsets",
    ),
    "anisotropy": (
        r"slope of $\log(\overline{|o_h|}/\overline{|o_v|})$ on an object in the log of its horizontal over its "
        "vertical extent, over objects of 4 tokens or more",
        "masks permuted among objects of the same quarter of scale",
    ),
    "boundary": (
        r"share of moved samples with $|o|$ at 0.8 to 1.2 of the distance to the object's border ahead",
        "the border behind",
    ),
}
"""Formula and null of each measure that decides a claim, in LaTeX."""
_OF_OBJECTS = ("mirror_gap", "elasticity", "anisotropy", "boundary")


def methods_text(recordings: Sequence[Recording]) -> str:
    """Return the paragraph with its references.

    Args:
        recordings: Opened recordings; each is described, and what is measured is what one of them holds.
    """
    parts = [
        _recorded(each, letter and f"{letter}; ")
        for letter, each in zip(letters_of(recordings), recordings, strict=True)
    ]
    text = "\n".join([*parts, _measured(recordings), _intervals()])
    return f"% for LaTeX in UTF-8; the references follow\n{text}\n\n{BIBTEX}{_references(text)}"


def _references(text: str) -> str:
    """Return the BibTeX entries of what a text cites beside the paper and this software."""
    entries = resources.files("atmviz.reports").joinpath("references.bib").read_text(encoding="utf-8").split("\n\n")
    return "".join(f"{entry.strip()}\n" for entry in entries if f"\\cite{{{re.split('[{,]', entry)[1]}}}" in text)


def _text(value: object) -> str:
    return latex_text(printable(str(value)))


def _recorded(recording: Recording, letter: str) -> str:
    """Describe images, network and samples; a letter tells several recordings apart."""
    attrs, weights = recording.attrs, recording.attrs["checkpoint"]
    versions = dict(attrs.get("versions") or {})
    own = versions.pop("atmviz", "of an unknown version")
    with_ = ", ".join(f"{name} {number}" for name, number in versions.items())
    kind = {"ema": "averaged weights, ", "model": "", None: ""}.get(weights.get("weights"), "")
    height, width = attrs["input_size"]
    failed = f" ({count(len(recording.skipped), 'image')} could not be read)" if recording.skipped else ""
    objects = ""
    if "objects" in recording.quantities:
        number = int((recording.read("objects")[..., 0] >= 0).sum())
        objects = f", with {count(number, 'object')} ({_text(attrs.get('labels') or 'labeled')})"
    layers: dict[str, list[str]] = {}
    for name, site in generating_sites(recording).items():
        size = rf"{site.grid[0]}$\times${site.grid[1]} tokens of {site.stride_px[1]} px"
        layers.setdefault(rf"{samples_of(site):,} ({size})", []).append(_text(name))
    samples = "; ".join(f"{size} in {', '.join(names)}" for size, names in layers.items())
    return (
        rf"The offsets of {_text(recording.model)}~\cite{{wei2023active}} ({letter}{kind}"
        rf"{TRAINED[recording.trained]}, SHA-256 \texttt{{{_text(weights['sha256'][:16])}}}) "
        rf"were recorded with atmviz {_text(own)}~\cite{{atmviz}} "
        rf"({_text(with_)}) on $N = {len(recording)}$ images{failed} of {_text(attrs['dataset'])}{objects}, at "
        rf"{height}$\times${width} px ({_text(fitted(recording))}), computed in {_text(attrs['precision'])}. A sample "
        "$o$ is the offset of one token and one distinct offset channel, in tokens; samples of an image along each "
        f"axis: {samples}."
    )


def _measured(recordings: Sequence[Recording]) -> str:
    """Define what is measured."""
    kept = {name for recording in recordings for name in recording.quantities}
    names = [name for name in FORMULAS if name not in _OF_OBJECTS or "hits" in kept]
    definitions = [
        f"{_text(DEFINITIONS[name].title)} (\\texttt{{{_text(DEFINITIONS[name].id)}}}, in "
        f"{_text(DEFINITIONS[name].unit)}): {formula}; null: {null}."
        for name, (formula, null) in FORMULAS.items()
        if name in names
    ]
    if "distances" in kept:
        definitions.append(
            rf"Reach (\texttt{{{_text(QUANTILES)}}}, in tokens): quantiles of $|o|$ over all samples, beside the "
            "median of the untrained network."
        )
    if "positions" in kept:
        definitions.append(
            rf"Constant, position, image and content (\texttt{{{_text(SHARES)}}}): shares of the mean square of $o$ in "
            rf"a two-way random-effects model~\cite{{searle1992variance}} of images and tokens, with 95\,\% intervals "
            f"by a jackknife over {GROUPS} groups of images."
        )
    if len(recordings) > 1:
        definitions.append(
            r"Two networks are compared by the Wasserstein-1 distance~\cite{vallender1974calculation} of their "
            rf"offsets, in tokens (\texttt{{{_text(DISTANCE)}}})."
        )
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in definitions)


def _intervals() -> str:
    return (
        rf"Intervals are 95\,\% percentile intervals of {DRAWS:,} bootstrap draws~\cite{{efron1993bootstrap}} of "
        rf"images. Of fewer than {MIN_IMAGES} images there are none. An effect is the estimate less its null, draw by "
        rf"draw. Its two-sided $p$ is corrected by Holm~\cite{{holm1979simple}} over the layers and axes of a measure, "
        f"and decides a claim below {SIGNIFICANT}."
    )
