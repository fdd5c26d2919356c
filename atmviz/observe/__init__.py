"""Where a network samples, and the hooks that watch or change it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "hooks": ["Edit", "Observation", "find_sites", "forward_to_sites", "observing", "require_observable"],
        "image": ["ObservedImage", "observe_image"],
        "interventions": ["Intervention", "edits_of"],
        "site": ["Site", "select_sites", "sources_of"],
    },
)
