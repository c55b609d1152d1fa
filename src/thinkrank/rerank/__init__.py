"""Re-rankers: EGLR, which pauses to think where a choice is uncertain, and those of the literature."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
