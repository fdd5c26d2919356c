"""Ablations: which runs are made, what they say, how they go on."""

import csv

import pytest

from atmviz.models import create_model
from atmviz.paper import PAPER_ROWS
from atmviz.training import ablation
from atmviz.training.ablation import ABLATIONS, AblationResult, ablate
from atmviz.training.loop import TrainResult


def test_the_rows_of_the_paper_build_their_networks():
    built = {a.name: create_model("atmnet_nano", num_classes=3, **a.settings) for a in ABLATIONS}
    mixers = {name: network.get_submodule(network.atm_layers()[0].module) for name, network in built.items()}
    assert [m.offset_mode for m in mixers.values()] == ["zero", "decoupled", "decoupled", "joint", "decoupled"]
    assert [m.num_samples for m in mixers.values()] == [1, 1, 1, 1, 3]
    for name, shares in {"full": {2, 4, 8}, "not decoupled": {1}, "3 samples": {1}}.items():
        assert {layer.channels_per_offset for layer in built[name].atm_layers()} == shares
    with_peg = [any(".peg." in name for name, _ in network.named_parameters()) for network in built.values()]
    assert with_peg == [False, False, True, True, True]
    assert [a.paper_top1 for a in ABLATIONS] == [79.3, 82.0, 82.0, None, 79.9]
    table = [(row.config, float(row.accuracies["top1"])) for row in PAPER_ROWS if row.table == 8]
    assert [(a.settings, a.paper_top1) for a in ABLATIONS[:3]] == table


def test_every_ablation_is_trained_with_every_seed(tmp_path, small, monkeypatch):
    runs = []

    def train(recipe, out, **options):
        runs.append((recipe, out))
        return TrainResult(out, [{"val_top1": 50 + len(runs)}])

    monkeypatch.setattr(ablation, "train", train)
    results, stopped = ablate(small(), tmp_path, (0, 1))
    assert stopped is None
    assert [recipe.seed for recipe, _ in runs] == [0] * 5 + [1] * 5
    assert len({out for _, out in runs}) == 10
    assert [one.top1 for one in results] == [[51, 56], [52, 57], [53, 58], [54, 59], [55, 60]]
    assert results[0].mean == 53.5
    assert results[0].spread == pytest.approx(3.5355339)
    with (tmp_path / "ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["top1"] == "51.00 56.00"
    assert [float(row["top1_mean"]) for row in rows] == [one.mean for one in results]


def test_a_small_ablation_runs_and_is_read_again(tmp_path, small):
    recipe = small(epochs=1, train_images=16, val_images=8)
    chosen = [a for a in ABLATIONS if a.name in ("full", "not decoupled")]
    first, _ = ablate(recipe, tmp_path, (0,), ablations=chosen, device="cpu")
    again, _ = ablate(recipe, tmp_path, (0,), ablations=chosen, device="cpu")
    assert [one.top1 for one in first] == [one.top1 for one in again]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ablation.csv", "full-0", "not_decoupled-0"]


def test_one_seed_has_no_spread():
    assert str(AblationResult(ABLATIONS[0], [1.0]).spread) == "nan"
