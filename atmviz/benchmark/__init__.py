"""Timings of atmviz beside the released way of sampling: both in one process, in turns, on the same tensors."""

import lazy_loader

# What is timed alone is imported alone: recordings need packages that branches and networks do without.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "model": ["benchmark_model"],
        "operator": ["benchmark_operator"],
        "record": ["benchmark_record"],
        "timing": ["BASELINE", "Timing", "describe_machine"],
    },
)
