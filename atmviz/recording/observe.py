"""One image through the network: the offsets of every token.

Legend: H/W grid in tokens, O distinct offsets per direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from atmviz.data.fitting import preprocess
from atmviz.errors import AtmvizError
from atmviz.geometry import Placement, Preprocessing
from atmviz.layers import LayerId
from atmviz.recording.recorder import OffsetRecorder, infer, layer_infos, require_recordable
from atmviz.recording.store import LayerInfo


@dataclass(frozen=True)
class ObservedImage:
    """What a network did with one image.

    Attributes:
        placement: How the image was fitted to the network.
        layers: The layers asked for, in that order.
        offsets: By generating layer, distinct offsets, [H, W, 2, O], tokens; axis 2: horizontal, vertical.
    """

    placement: Placement
    layers: list[LayerInfo]
    offsets: dict[LayerId, np.ndarray]


def observe_image(
    network: nn.Module, image: np.ndarray, preprocessing: Preprocessing, layers: Sequence[LayerId]
) -> ObservedImage:
    """Run one upright RGB image [H, W, 3], uint8, and keep the offsets behind the layers asked for.

    Raises:
        AtmvizError: offsets that are not finite, or a network that cannot be recorded.
    """
    require_recordable(network)
    pixels, placement = preprocess(image, preprocessing)
    with OffsetRecorder(network, layers) as recorder, torch.inference_mode():
        infer(network, pixels)
    for source, offset in recorder.offsets.items():
        if not offset.isfinite().all():
            raise AtmvizError(f"layer {source} gave NaN or infinite offsets: check the checkpoint and the image")
    infos = {info.layer: info for info in layer_infos(recorder, placement.size)}
    offsets = {source: offset[0].float().cpu().numpy() for source, offset in recorder.offsets.items()}
    return ObservedImage(placement, [infos[layer] for layer in layers], offsets)
