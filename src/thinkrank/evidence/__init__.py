"""What the crowd did, in numbers and in words: counts without the asking user, features, reasons, checked claims."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
