"""`atmviz checkpoints`: which are public, and where."""

import json
import socket

from atmviz.architecture import Architecture
from atmviz.files import BUNDLED_CHECKPOINTS
from atmviz.variants import VARIANTS


def test_public_checkpoints_are_named_with_their_page_and_nothing_is_downloaded(succeed, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    said = json.loads(succeed("checkpoints", "--json").stdout)
    assert said["page"] == "https://github.com/microsoft/ActiveMLP"
    public = [each["model"] for each in said["checkpoints"] if each["is_public"]]
    assert public == ["atmnet_xtiny", "atmnet_tiny", "atmnet_large", "upernet(atmnet_large)", *BUNDLED_CHECKPOINTS]
    others = [each["model"] for each in said["checkpoints"] if not each["is_public"]]
    assert others == ["atmnet_small", "atmnet_base"]
    for model in public + others:
        assert Architecture.parse(model).backbone.split(".")[0] in VARIANTS
    text = succeed("checkpoints").stdout
    assert said["page"] in text
    assert all(model in text for model in public + others)
