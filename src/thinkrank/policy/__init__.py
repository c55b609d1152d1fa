"""Reinforcement-learning mathematics on tensors. It knows nothing of language models or recommendation."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
