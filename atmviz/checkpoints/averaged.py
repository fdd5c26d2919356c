"""Tell a file's averaged weights (EMA, SWA) from the plain ones, by any public name.

Three libraries swap the two when they save, so that the plain name holds the averages: mmcv's EMAHook (the plain
weights are then called ema_backbone_...), mmengine's (ema_state_dict) and Lightning's WeightAveraging
(current_model_state).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from atmviz.checkpoints.stored import StoredTensor

WeightChoice = Literal["ema", "model"]
State = dict[str, StoredTensor]

# Words in the names of averages ("current" in Lightning's swapped ones), and of entries that hold no weights
_AVERAGED = {"ema", "swa", "avg", "average", "averaged", "averaging", "shadow", "polyak", "teacher", "current"}
_NO_WEIGHTS = {"optimizer", "optimizers", "optim", "scheduler", "schedulers", "scaler", "rng", "sampler", "loops"}
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")  # of DataParallel, torch.compile, timm, Lightning
_COUNTERS = {"n_averaged", "num_updates", "updates", "steps", "step", "decay", "initted"}  # saved with averages
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # missing where only parameters are averaged
_MAX_DEPTH = 4  # of nested mappings in which state dicts are sought


def weight_sets(raw: Any) -> tuple[dict[WeightChoice, State], bool, str]:
    """Return the state dicts "model" and "ema" of a file, as far as it has them, under the network's names.

    Args:
        raw: The content of a file, with tensors as `StoredTensor`.

    Returns:
        The state dicts; whether the file names the one it holds; and a note on averages that could not be assigned.
    """
    candidates = list(_find_tensors(raw, frozenset(), set()))
    states = [(words, state) for words, state in candidates if isinstance(state, dict)]
    networks = [state for words, state in states if not words & _AVERAGED and any("." in name for name in state)]
    plain = max(networks, key=len, default={})
    averaged = max((state for words, state in states if words & _AVERAGED), key=len, default={})
    is_named = plain is not raw or all(name.startswith("model.") for name in plain)
    is_swapped = _is_swapped(raw)
    if not averaged:
        plain, averaged, is_swapped = _split(plain)
    plain, averaged = _unwrap(plain), _unwrap(averaged)
    is_unclear = any(words & _AVERAGED for words, state in candidates if isinstance(state, list))
    if plain and averaged:
        averaged = _rename_like(plain, averaged)
        if not averaged:
            is_unclear = True
        elif is_swapped:
            plain, averaged = averaged, plain
    sets: dict[WeightChoice, State] = {"model": plain, "ema": averaged}
    note = "averaged weights may be there, but their names do not tell: not taken" if is_unclear else ""
    return {kind: state for kind, state in sets.items() if state}, is_named or bool(averaged), note


def _find_tensors(
    value: Any, words: frozenset[str], seen: set[tuple[int, bool]], depth: int = _MAX_DEPTH
) -> Iterator[tuple[Any, Any]]:
    """Yield the state dicts and lists of tensors in a file, with the words of the keys that lead to them."""
    visit = id(value), bool(words & _AVERAGED)  # at most two visits, however often a file refers to the value
    if visit in seen or words & _NO_WEIGHTS or not value:
        return
    seen.add(visit)
    if isinstance(value, list | tuple) and isinstance(value[0], StoredTensor):
        yield words, list(value)
    elif isinstance(value, Mapping):
        if all(isinstance(item, StoredTensor) for item in value.values()):
            yield words, value
        elif depth:
            for name, item in value.items():
                yield from _find_tensors(item, words | _words(name), seen, depth - 1)


def _words(name: str) -> frozenset[str]:
    """Return the words of a name in lower case: of EMACallback, state_dict_ema, ema.module."""
    return frozenset(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name[:200]))


def _is_swapped(raw: Any) -> bool:
    """Whether mmengine's or Lightning's hook wrote it; only mmengine's counts "steps" with its averages."""
    return isinstance(raw, Mapping) and ("current_model_state" in raw or "steps" in (raw.get("ema_state_dict") or ()))


def _split(state: State) -> tuple[State, State, bool]:
    """Split a state dict of both, as Lightning and mmcv write: plain, averaged, and whether they are swapped."""
    if "n_averaged" in state:  # torch's AveragedModel
        return {}, state, False
    averages, buffers, plain = {}, {}, {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        if rest and _words(first) & _AVERAGED:
            averages[rest] = tensor
        elif not rest and name.startswith("ema_"):
            buffers[name.removeprefix("ema_")] = tensor
        else:
            plain[name] = tensor
    return plain, averages or buffers, bool(buffers)


def _unwrap(state: State) -> State:
    """Drop counters of updates, and prefixes that all names have."""
    state = {name: tensor for name, tensor in state.items() if name not in _COUNTERS}
    while state and (prefix := next((p for p in _WRAPPERS if all(name.startswith(p) for name in state)), None)):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _rename_like(plain: State, averaged: State) -> State:
    """Rename averaged weights as the plain ones, adding the buffers that averages lack; {} where they do not fit.

    mmcv writes names without dots, and some scripts of diffusion models leave the dots out.
    """
    names = {re.sub(r"[._]", "", name): name for name in plain}
    renamed = {names.get(re.sub(r"[._]", "", name), name): tensor for name, tensor in averaged.items()}
    if 2 * len(renamed.keys() & plain.keys()) < len(plain):
        return {}
    buffers = {name: tensor for name, tensor in plain.items() if name.endswith(_BUFFERS) and name not in renamed}
    return {**buffers, **renamed}
