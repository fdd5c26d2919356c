"""One web page, offline, about recordings: what they hold, figures, claims, and a paragraph on methods."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"reporting": ["Report", "report"]})
