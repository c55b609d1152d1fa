"""A self-contained HTML report: results, learning curves, thoughts, single users, data. No network, no script."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
