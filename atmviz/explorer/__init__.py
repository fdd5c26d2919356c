"""One web page, offline, in which the tokens that every query samples are explored."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "exploring": ["explore"],
        "page": ["Explorer"],
        "settings": ["ExplorerSettings"],
    },
)
