"""From one stage to the next: what they are taught by each other, and how they answer together."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
