import pytest
import torch


@pytest.fixture
def reaches():
    """Whether a ratio of speeds exceeds a goal in one of three tries: other work on a machine hurts it at times."""
    return lambda ratio, goal: any(ratio() > goal for _ in range(3))


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
