import pytest

from thinkrank.data import Dataset, RelayOptions, RelayWorld, World, WorldOptions, load_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.testing import ListSourceContract, SourceContract

WORLDS = [("synthetic", WorldOptions, World), ("synthetic-relay", RelayOptions, RelayWorld)]
each_world = pytest.mark.parametrize(("source", "options", "world"), WORLDS)


class TestWorld(SourceContract):
    name, options = "synthetic", {"users": 20}

    def write(self, folder):
        return None


class TestRelay(TestWorld):
    name = "synthetic-relay"


class TestListWorld(ListSourceContract):
    name, options = "synthetic", {"lists": 20}

    def write(self, folder):
        return None


@each_world
def test_a_world_can_be_made_again_from_what_its_data_set_records(source, options, world, tmp_path):
    made = load_dataset(source, users=20, seed=3)
    made.save(tmp_path)
    recorded = Dataset.load(tmp_path).source
    assert recorded["source"] == source
    again = world(options(**recorded["options"]))
    assert again.options == options(users=20, seed=3)
    assert again.dataset().fingerprint == made.fingerprint


@each_world
def test_a_path_is_refused(source, options, world):
    with pytest.raises(ThinkrankError, match=f"here: the source '{source}' is made, not read; leave the path out"):
        load_dataset(source, "here")


def test_an_option_that_does_not_fit_is_named():
    with pytest.raises(ThinkrankError, match=r"synthetic: option items=200: these styles and kinds make only 6 items"):
        load_dataset("synthetic", styles=2, kinds=3)
