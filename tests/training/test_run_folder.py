"""The folder of a run: nothing in it is lost, nothing of another run is taken for its own."""

import pytest
import torch

from atmviz.errors import RecipeError, TrainingError
from atmviz.events import QUIET
from atmviz.training import loop


def train(recipe, out, events=QUIET):
    return loop.train(recipe, out, device="cpu", events=events)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_state_is_refused(tmp_path, small, damage):
    recipe = small(train_images=16, epochs=1)
    train(recipe, tmp_path / "run")
    content = bytearray(tmp_path.joinpath("run/state.pt").read_bytes())
    content[len(content) // 2] ^= 255
    tmp_path.joinpath("run/state.pt").write_bytes(content if damage == "flip" else content[:1000])
    with pytest.raises(TrainingError, match=r"state\.pt is damaged .*restore it, or choose another folder"):
        train(recipe, tmp_path / "run")


def test_a_state_of_something_else_is_refused(tmp_path, small):
    recipe = small(train_images=16, epochs=1)
    train(recipe, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save({**state, "task": {}}, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match=r"state\.pt does not fit this run"):
        train(recipe, tmp_path)


def test_results_without_a_state_are_not_replaced(tmp_path, small):
    recipe = small(train_images=16, epochs=1)
    train(recipe, tmp_path)
    tmp_path.joinpath("state.pt").unlink()
    with pytest.raises(TrainingError, match=r"holds last\.safetensors, .* but no state\.pt to resume from"):
        train(recipe, tmp_path)


def test_a_recipe_of_the_users_own_is_not_replaced(tmp_path, small):
    tmp_path.joinpath("recipe.yaml").write_text("lr: 0.1  # my notes\n")
    with pytest.raises(RecipeError, match="is another recipe, which a run would replace"):
        train(small(), tmp_path)
    assert tmp_path.joinpath("recipe.yaml").read_text() == "lr: 0.1  # my notes\n"


def test_two_runs_do_not_share_a_folder(tmp_path, small, notes_class):
    class Second(notes_class):
        def epoch(self, row, health):
            with pytest.raises(TrainingError, match=r"another process trains in .*: wait for it, or choose another"):
                train(small(lr=0.5), tmp_path)

    train(small(train_images=16, epochs=1), tmp_path, Second())
    assert not tmp_path.joinpath(".lock").exists()


def test_a_folder_of_an_earlier_version_resumes(tmp_path, small, notes_class):
    """The names in state.pt are those of earlier versions, and former names of settings are read."""
    recipe = small(train_images=16, epochs=1)
    history = train(recipe, tmp_path).history
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    written = ("format", "recipe", "data", "epoch", "updates_done", "totals", "task", "ema", "optimizer", "scaler")
    assert sorted(state) == sorted((*written, "history", "health", "best"))
    assert list(state["health"][0]) == ["epoch", "layer", "mean_abs", "mean_share", "p99_abs", "outside", "still"]
    former = {"head": "framework", "channels_per_offset": "share"}
    state["recipe"] = {former.get(name, name): value for name, value in state["recipe"].items()}
    torch.save(state, tmp_path / "state.pt")
    notes = notes_class()
    assert train(recipe, tmp_path, notes).history == history
    assert "is finished" in notes.messages[0]
