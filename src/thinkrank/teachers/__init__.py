"""Teachers write thoughts for a model to imitate: rules, files, endpoints, local models, and what of it is kept."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
