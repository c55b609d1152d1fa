"""Worlds that are made, not read, so that what a good system should answer is known.

`World` has users whose tastes drift and who click on lists; `RelayWorld` has one right answer per user, two look-ups
away from what is shown.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
