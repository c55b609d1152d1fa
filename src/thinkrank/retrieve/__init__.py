"""Retrievers: R²ec, which can think before it scores the whole catalogue, and the classic ones."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
