"""What every training run shares: its folder, exact resume, schedules, progress, the training loop."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
