"""The ATM operator: sampling features along one axis at real-valued offsets (Eq. 2)."""

from atmviz.ops.sampling import Branch, sample_along

__all__ = ["Branch", "sample_along"]
