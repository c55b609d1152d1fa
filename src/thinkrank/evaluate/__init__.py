"""The protocols of all three stages, significance, result rows, and studies of many runs."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
