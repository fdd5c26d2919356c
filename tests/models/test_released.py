"""Names of tensors in released checkpoints; `tests/dense/test_layouts.py` and `tests/checkpoints` have whole files."""

from atmviz.models import create_model
from atmviz.models.released import released_to_timm


def test_a_released_state_dict_in_this_layout_comes_back_unchanged():
    state = create_model("atmnet_nano", out_norms=True).state_dict()
    again = released_to_timm(state)
    assert list(again) == list(state)
    assert all(again[name] is tensor for name, tensor in state.items())
