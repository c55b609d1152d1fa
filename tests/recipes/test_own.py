"""A stage of one's own: what is asked of its class, and what is made good where it lacks something."""

import numpy as np
import pytest

from thinkrank.data import Requests, World, WorldOptions, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import CONFIG_FILE
from thinkrank.recipes import own
from thinkrank.recipes.own import StageClass, with_places
from thinkrank.retrieve import ItemKNN, Popularity
from thinkrank.training import UnsavedRun


@pytest.fixture(scope="module")
def split():
    return split_dataset(World(WorldOptions(users=40, items=40, styles=8, kinds=8, events=10)).dataset())


class Searching:
    """A retriever that has `retrieve` alone."""

    def __init__(self, retriever):
        self.retrieve = retriever.retrieve


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("kind", [Popularity, ItemKNN])
def test_places_are_read_off_an_answer_that_holds_everything(split, kind, filter_seen):
    model, samples = kind().fit(split), split.test
    targets = samples.targets.copy()
    targets[::3] = [history.items[-1] for history in samples.histories()][::3]  # seen: left out, or to be found
    found = with_places(Searching(model), len(split.dataset.catalogue))
    ranks = found.target_ranks(samples.requests(), targets, filter_seen=filter_seen)
    np.testing.assert_array_equal(ranks, model.target_ranks(samples.requests(), targets, filter_seen=filter_seen))
    assert with_places(model, 3) is model


def test_a_stage_of_the_package_is_named_like_one_s_own(split, tmp_path):
    chosen = StageClass(name="thinkrank.retrieve.item_knn:ItemKNN", options={"neighbours": 3})
    model = own.create(chosen, "retrieve")
    assert model.config.neighbours == 3
    own.learn(chosen, model, split, UnsavedRun())
    own.save(chosen, model, tmp_path)
    loaded = own.load(chosen, "retrieve", tmp_path, "cpu")
    requests = Requests(split.test.histories())
    np.testing.assert_array_equal(loaded.retrieve(requests, 5).items_BK, model.retrieve(requests, 5).items_BK)
    with pytest.raises(ThinkrankError, match=r"did you mean neighbours\?"):
        own.create(StageClass(name=chosen.name, options={"neighbors": 3}), "retrieve")


class Torchlike:
    """A class whose `train` is not a training, as that of torch's modules."""

    fitted = False

    def train(self, mode=True):
        raise AssertionError

    def fit(self, split):
        self.fitted = True

    def save_pretrained(self, folder):
        (folder / "weights").write_text("1")


def test_a_train_without_a_run_is_not_taken_for_a_training(split, tmp_path):
    chosen, stage = StageClass(name="mine:Torchlike"), Torchlike()
    own.learn(chosen, stage, split, UnsavedRun())
    assert stage.fitted
    own.save(chosen, stage, tmp_path / "model")
    assert '"kind": "mine:Torchlike"' in (tmp_path / "model" / CONFIG_FILE).read_text(encoding="utf-8")


def test_a_class_that_cannot_learn_is_told(split):
    with pytest.raises(ThinkrankError, match=r"mine:Thing has neither fit\(split\) nor train\(split, run\)"):
        own.learn(StageClass(name="mine:Thing"), object(), split, UnsavedRun())
