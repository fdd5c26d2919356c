"""Tell a file's averaged weights (EMA, SWA) from those they average, by any public name.

Three libraries exchange the two when they save, so that the plain name holds the averages: mmcv's EMAHook (the others
are called ema_backbone_... then), mmengine's (ema_state_dict) and Lightning's WeightAveraging (current_model_state).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from atmviz.stored import StoredTensor

WeightChoice = Literal["ema", "model"]
State = dict[str, StoredTensor]

# Words in the names of averages, "current" of Lightning's exchanged ones; and in those of what is no network
_AVERAGED = {"ema", "swa", "avg", "average", "averaged", "averaging", "shadow", "polyak", "teacher", "current"}
_NO_NETWORK = {"optimizer", "optimizers", "optim", "scheduler", "schedulers", "scaler", "rng", "sampler", "loops"}
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")  # data parallel, torch.compile, timm, Lightning
_COUNTERS = {"n_averaged", "num_updates", "updates", "steps", "step", "decay", "initted"}  # beside averages
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # which averages of parameters leave out
_DEPTH = 4  # to which state dicts are looked for


def weight_sets(raw: Any) -> tuple[dict[WeightChoice, State], bool, str]:
    """The state dicts "model" and "ema" of a file as far as it has them, with their names as the network has them.

    Returns:
        The sets; whether the file says which it holds; and averages that could not be told, "" for none.
    """
    found = list(_tensors(raw, frozenset(), set()))
    states = [(words, state) for words, state in found if isinstance(state, dict)]
    networks = [state for words, state in states if not words & _AVERAGED and any("." in name for name in state)]
    plain = max(networks, key=len, default={})
    averaged = max((state for words, state in states if words & _AVERAGED), key=len, default={})
    told = plain is not raw or all(name.startswith("model.") for name in plain)
    exchanged = _is_exchanged(raw)
    if not averaged:
        plain, averaged, exchanged = _split(plain)
    plain, averaged = _unwrapped(plain), _unwrapped(averaged)
    untold = any(words & _AVERAGED for words, state in found if isinstance(state, list))
    if plain and averaged:
        averaged = _named_like(plain, averaged)
        if not averaged:
            untold = True
        elif exchanged:
            plain, averaged = averaged, plain
    told = told or bool(averaged)
    sets: dict[WeightChoice, State] = {"model": plain, "ema": averaged}
    note = "averaged weights may be there, but their names do not tell: not taken" if untold else ""
    return {kind: state for kind, state in sets.items() if state}, told, note


def _tensors(
    value: Any, words: frozenset[str], seen: set[tuple[int, bool]], depth: int = _DEPTH
) -> Iterator[tuple[Any, Any]]:
    """State dicts and lists of tensors in a file, with the words of the names that lead to them."""
    place = id(value), bool(words & _AVERAGED)  # each is seen at most as both, however often a file refers to it
    if place in seen or words & _NO_NETWORK or not value:
        return
    seen.add(place)
    if isinstance(value, list | tuple) and isinstance(value[0], StoredTensor):
        yield words, list(value)
    elif isinstance(value, Mapping):
        if all(isinstance(one, StoredTensor) for one in value.values()):
            yield words, value
        elif depth:
            for name, one in value.items():
                yield from _tensors(one, words | _words(name), seen, depth - 1)


def _words(name: str) -> frozenset[str]:
    """Of EMACallback, state_dict_ema and ema.module: in lower case."""
    return frozenset(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name[:200]))


def _is_exchanged(raw: Any) -> bool:
    """Whether mmengine's or Lightning's hook wrote it; mmengine's alone counts "steps" beside its averages."""
    return isinstance(raw, Mapping) and ("current_model_state" in raw or "steps" in (raw.get("ema_state_dict") or ()))


def _split(state: State) -> tuple[State, State, bool]:
    """One state dict that holds both, as Lightning's and mmcv's do: the plain, the averaged, and whether exchanged."""
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


def _unwrapped(state: State) -> State:
    """Without counters of updates, and without prefixes that all names have."""
    state = {name: tensor for name, tensor in state.items() if name not in _COUNTERS}
    while state and (prefix := next((one for one in _WRAPPERS if all(name.startswith(one) for name in state)), None)):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _named_like(plain: State, averaged: State) -> State:
    """The averaged weights under the plain ones' names, with the buffers that averages lack; {} where they do not fit.

    mmcv writes names without dots, and some scripts of diffusion models leave the dots out.
    """
    names = {re.sub(r"[._]", "", name): name for name in plain}
    renamed = {names.get(re.sub(r"[._]", "", name), name): tensor for name, tensor in averaged.items()}
    if 2 * len(renamed.keys() & plain.keys()) < len(plain):
        return {}
    buffers = {name: one for name, one in plain.items() if name.endswith(_BUFFERS) and name not in renamed}
    return {**buffers, **renamed}
