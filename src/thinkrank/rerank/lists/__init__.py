"""Lists as tensors, and their first layer: what every model that orders a list shares."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
