"""Contracts of everything that can be replaced, as test classes to inherit from; pytest is needed."""

import pkgutil

import lazy_loader as lazy
import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
