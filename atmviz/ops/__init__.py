"""The ATM operator, sampling features along one axis at real-valued offsets (Eq. 2), and the summary of offsets."""

from atmviz.ops.fusion import weighted_sum
from atmviz.ops.mlp import channel_mlp
from atmviz.ops.sampling import Branch, sample_along
from atmviz.ops.summary import summarise_offsets

__all__ = ["Branch", "channel_mlp", "sample_along", "summarise_offsets", "weighted_sum"]
