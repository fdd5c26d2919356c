"""Averaged weights: found under the names of every public script, taken first, said, and never guessed."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from atmviz.checkpoints import load_model, read_checkpoint
from atmviz.checkpoints.averaged import weight_sets
from atmviz.checkpoints.tensors import read_tensors
from atmviz.errors import CheckpointError
from atmviz.models import create_model

LAST, AVERAGE = 1.0, 2.0  # what all values of the two are


@pytest.fixture(scope="module")
def names():
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in create_model("atmnet_nano", num_classes=3).state_dict().items()}


def filled(names, value, prefix="", dots="."):
    return {prefix + name.replace(".", dots): torch.tensor(value).expand(size) for name, size in names.items()}


def taken(path, content, weights=None):
    """The value of the weights taken, and what is said."""
    torch.save(content, path)
    checkpoint = read_checkpoint(path, weights)
    (value,) = {value for tensor in checkpoint.state.values() for value in tensor.flatten()[:2].tolist()}
    return value, checkpoint.origin.describe()


AVERAGED_NAMES = [
    *("model_ema", "state_dict_ema", "ema_state_dict", "ema", "ema_model", "ema_weights", "ema_params", "emaModel"),
    *("averaged_model", "model_avg", "avg_model", "averaged_weights", "swa_model", "swa_state_dict", "net_ema", "EMA"),
    *("model_ema_state_dict", "ema_model_state_dict", "ema_network", "params_ema", "shadow", "polyak_average"),
]
PARTNERS = ["model", "state_dict", "net", "network", "module", "model_state_dict", "params", "weights", "my_net"]


@pytest.mark.parametrize("averaged", AVERAGED_NAMES)
def test_averages_are_found_under_every_name(averaged, names, tmp_path):
    content = {"epoch": 3, "model": filled(names, LAST), averaged: filled(names, AVERAGE)}
    value, said = taken(tmp_path / "a.pth", content)
    assert value == AVERAGE
    assert "EMA weights" in said
    value, said = taken(tmp_path / "a.pth", content, "model")
    assert value == LAST
    assert "model weights" in said


@pytest.mark.parametrize("partner", PARTNERS)
def test_averages_are_found_beside_every_partner(partner, names, tmp_path):
    content = {partner: filled(names, LAST), "ema": filled(names, AVERAGE), "optimizer": {"state": {}}}
    assert taken(tmp_path / "a.pth", content)[0] == AVERAGE
    assert taken(tmp_path / "a.pth", content, "model")[0] == LAST


@pytest.mark.parametrize("averaged", AVERAGED_NAMES)
def test_averages_alone_are_said_to_be_averages(averaged, names, tmp_path):
    value, said = taken(tmp_path / "a.pth", {averaged: filled(names, AVERAGE)})
    assert value == AVERAGE
    assert "EMA weights" in said


@pytest.mark.parametrize(
    "content",
    [
        lambda f: {"model": f(LAST), "ema": {"module": f(AVERAGE), "updates": 7}},  # RT-DETR
        lambda f: {"model": f(LAST), "model_ema": {"module": f(AVERAGE, "module."), "decay": 0.9}},
        lambda f: {"state_dict": f(LAST), "callbacks": {"EMACallback": {"ema_weights": f(AVERAGE)}}},
        lambda f: {"state_dict": f(LAST, "model.") | f(AVERAGE, "ema_model.")},  # Lightning, one dict
        lambda f: {"state_dict": f(LAST, "net.") | f(AVERAGE, "net_ema.module.") | {"net_ema.n_averaged": _count()}},
        lambda f: {"state_dict": f(LAST, "model.") | f(AVERAGE, "ema.module.")},
        lambda f: {
            "state_dict": f(LAST, "model.") | f(AVERAGE, "model_ema.", "") | {"model_ema.num_updates": _count()}
        },
        lambda f: {"student": f(LAST, "module."), "teacher": f(AVERAGE, "module.")},
        lambda f: {"model": f(LAST), "ema": {"shadow": f(AVERAGE), "decay": 0.9}},
    ],
    ids=["RT-DETR", "timm", "callback", "Lightning", "AveragedModel", "ModelEmaV2", "LitEma", "teacher", "shadow"],
)
def test_forms_of_public_scripts(content, names, tmp_path):
    require_both(content, names, tmp_path)


def require_both(content, names, tmp_path):
    """Averages are taken, and the last weights where they are asked for."""
    written = content(lambda *args: filled(names, *args))
    value, said = taken(tmp_path / "a.pth", written)
    assert value == AVERAGE
    assert "EMA weights" in said
    assert taken(tmp_path / "a.pth", written, "model")[0] == LAST


@pytest.mark.parametrize(
    "content",
    [
        # mmengine: ema_hook.py, _swap_ema_state_dict; mmcv: ema.py, "saved in ema field"; Lightning: WeightAveraging
        lambda f: {"state_dict": f(AVERAGE), "ema_state_dict": {"steps": _count()} | f(LAST, "module.")},
        lambda f: {"state_dict": f(AVERAGE) | f(LAST, "ema_", "_"), "meta": {}},
        lambda f: {
            "state_dict": f(AVERAGE, "model."),
            "current_model_state": f(LAST, "model."),
            "averaging_state": {"n_averaged": _count()},
        },
    ],
    ids=["mmengine", "mmcv", "Lightning"],
)
def test_libraries_that_exchange_the_two_are_known(content, names, tmp_path):
    require_both(content, names, tmp_path)


def _count():
    return torch.tensor(5)


@pytest.mark.parametrize("place", [None, "model", "model_ema", "state_dict"])
def test_torchs_own_averages_are_known_by_their_counter(place, nano, tmp_path):
    average = AveragedModel(nano, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True).state_dict()
    assert "n_averaged" in average
    torch.save({place: average} if place else average, tmp_path / "a.pth")
    network = load_model(tmp_path / "a.pth", device="cpu")
    assert "EMA weights" in network.origin.describe()
    assert torch.equal(network.stem.weight, nano.stem.weight)


def test_one_safetensors_file_may_hold_both(names, tmp_path):
    state = filled(names, LAST, "model.") | filled(names, AVERAGE, "ema.")
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "a.safetensors")
    network = load_model(tmp_path / "a.safetensors", device="cpu")
    assert network.stem.bias[0] == AVERAGE


def test_both_may_be_one(names, tmp_path):
    state = filled(names, AVERAGE)
    assert "EMA weights" in taken(tmp_path / "a.pth", {"model": state, "model_ema": state})[1]


def test_buffers_that_averages_of_parameters_lack_are_the_last_ones(tmp_path):
    plain = {"a.weight": torch.ones(3), "a.running_mean": torch.ones(3), "b.weight": torch.ones(3)}
    torch.save({"model": plain, "ema": {"a.weight": torch.ones(3), "b.weight": torch.ones(3)}}, tmp_path / "a.pth")
    sets, told, note = weight_sets(read_tensors(tmp_path / "a.pth")[0])
    assert sets["ema"].keys() == plain.keys()
    assert sets["ema"]["a.running_mean"] is sets["model"]["a.running_mean"]
    assert (told, note) == (True, "")


@pytest.mark.parametrize(
    "averaged",
    [
        lambda f, names: {"shadow_params": list(f(AVERAGE).values()), "decay": 0.9},  # torch_ema
        lambda f, names: {f"layer{n}.weight": torch.zeros(3) for n in range(len(names))},
    ],
    ids=["no names", "other names"],
)
def test_averages_that_cannot_be_told_are_said_and_not_taken(averaged, names, tmp_path):
    def f(value):
        return filled(names, value)

    value, said = taken(tmp_path / "a.pth", {"model": f(LAST), "ema": averaged(f, names)})
    assert value == LAST
    assert "averaged weights may be there, but their names do not tell: not taken" in said


def test_an_average_that_lacks_weights_is_not_filled_with_others(names, tmp_path):
    average = filled(names, AVERAGE)
    del average["norm.weight"]
    torch.save({"model": filled(names, LAST), "ema": average}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=re.escape("1 missing: norm.weight")):
        load_model(tmp_path / "a.pth", device="cpu")


@pytest.mark.parametrize(
    "beside",
    [
        {"optimizer": {"state": {"stem.weight": {"exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}}},
        {"loss_avg": torch.tensor(0.3), "ema_decay": 0.9},
        {"ema": None},
        {"ema": {}},
        {"ema": {"decay": 0.99}},
        {"callbacks": {"ModelCheckpoint": {"best": torch.tensor(3.0)}}},
        {"message_hub": {"log_scalars": {"avg": [1.0, 2.0]}}},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_other_things_are_no_averages(beside, names, tmp_path):
    value, said = taken(tmp_path / "a.pth", {"model": filled(names, LAST), **beside})
    assert value == LAST
    assert "model weights" in said
    assert "averaged" not in said
