"""What users did: data sets, displayed lists, their sources, filters and splits."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
