"""The ATM operator, which samples features along one axis at real-valued offsets (Eq. 2), and operators around it."""

from atmviz.ops.fusion import weighted_sum
from atmviz.ops.mlp import channel_mlp
from atmviz.ops.sampling import Branch, sample_along
from atmviz.ops.summary import summarize_offsets

__all__ = ["Branch", "channel_mlp", "sample_along", "summarize_offsets", "weighted_sum"]
