"""A run as a web service: answers, thoughts as they are written, and a page to look inside."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
