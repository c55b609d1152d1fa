"""Packages whose names are imported on first use, so that `thinkrank --help` need not wait for torch."""

import importlib
from collections.abc import Callable, Collection, Mapping


def lazy_names(package: str, homes: Mapping[str, str], submodules: Collection[str] = ()) -> Callable[[str], object]:
    """Return a module-level `__getattr__` (PEP 562) for a package.

    Args:
        package: the package's `__name__`.
        homes: exported name → the submodule that defines it.
        submodules: names that are submodules themselves.
    """

    def resolve(name: str) -> object:
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return resolve
