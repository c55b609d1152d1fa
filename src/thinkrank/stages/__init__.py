"""What every stage is asked, what it answers, and the protocols by which it is known."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
