"""A small run of every kind, served."""

import copy

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from starlette.testclient import TestClient

from thinkrank.cascade import Cascade
from thinkrank.data import split_dataset
from thinkrank.evidence import Reasons
from thinkrank.language import tiny_backbone
from thinkrank.retrieve import ItemKNN, R2ec, R2ecConfig
from thinkrank.serve import ServeOptions, create_app
from thinkrank.serve.served import Served
from thinkrank.testing.worlds import two_tribes

HOSTS = ("testserver", "127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def dataset():
    return two_tribes()


@pytest.fixture(scope="session")
def thinker(dataset):
    """A retriever that writes thoughts of 24 tokens at most; nobody trained it."""
    thought = {"max_new_tokens": 24}
    config = R2ecConfig(backbone="tiny", dtype="float32", thought=thought, lora={"rank": 2})
    backbone = tiny_backbone(dataset.catalogue.titles, seed=6)  # whose greedy text can be read
    return R2ec.create(config, dataset.catalogue, backbone=backbone, seed=1)


def served_thinker(thinker, dataset, **options):
    """Serve the same weights with engines and memories of their own."""
    head, states = copy.deepcopy((thinker.head, thinker.states))  # a server may add items
    model = R2ec(thinker.config, thinker.backbone, dataset.catalogue, head, states)
    reasons = Reasons.of(split_dataset(dataset), "film")
    options = ServeOptions(**{"hosts": HOSTS, **options})
    return Served.of(model, options, name="thinker", version="v1", dataset=dataset, reasons=reasons), options


@pytest.fixture
def client(thinker, dataset):
    served, options = served_thinker(thinker, dataset)
    with TestClient(create_app(served, options)) as client:
        yield client


@pytest.fixture
def counting(dataset):
    """A served item-kNN, which writes nothing."""
    served = Served.of(ItemKNN().fit(dataset), name="kNN", dataset=dataset)
    with TestClient(create_app(served, ServeOptions(hosts=HOSTS))) as client:
        yield client


@pytest.fixture(scope="session")
def plain(thinker):
    """What answers outside of a server."""
    return Cascade(thinker)
