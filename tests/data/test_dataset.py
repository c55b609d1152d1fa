import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Catalogue, Dataset
from thinkrank.errors import ThinkrankError

EVENTS = st.lists(
    st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcd"), st.integers(0, 5)), min_size=1, max_size=40
)


def test_events_of_a_user_stand_together_in_time_order(dataset):
    assert dataset.users == ["ann", "bob", "cy", "di"]
    assert dataset.offsets.tolist() == [0, 5, 8, 10, 11]
    assert [dataset.catalogue.ids[row] for row in dataset.items_E] == list("abcadbcdade")
    assert dataset.times_E.tolist() == [10, 20, 30, 40, 90, 15, 35, 50, 12, 60, 70]
    assert dataset.ratings_E is None


@given(events=EVENTS)
def test_each_user_has_their_own_events_in_stable_time_order(build_dataset, events):
    dataset = build_dataset(events)
    for number, user in enumerate(dataset.users):
        expected = sorted((event for event in events if event[0] == user), key=lambda event: event[2])
        start, end = dataset.offsets[number : number + 2]
        got = [(dataset.catalogue.ids[dataset.items_E[i]], dataset.times_E[i]) for i in range(start, end)]
        assert got == [(item, time) for _, item, time in expected]


def test_a_history_is_a_view(dataset):
    history = dataset.history("bob")
    assert history.items.tolist() == [1, 2, 3]
    assert np.shares_memory(history.items, dataset.items_E)
    assert np.shares_memory(history.times, dataset.times_E)
    with pytest.raises(ValueError, match="read-only"):
        history.items[0] = 9


def test_a_history_can_stop_before_a_time(dataset):
    assert dataset.history("bob", before=35).times.tolist() == [15]
    assert len(dataset.history("bob", before=0)) == 0


def test_an_unknown_user_names_the_nearest(dataset):
    with pytest.raises(ThinkrankError, match="no user has the id 'anne'; nearest: ann"):
        dataset.history("anne")


def test_missing_ratings_are_nan(catalogue):
    frame = pl.DataFrame({"user": ["u", "u"], "item": ["i1", "i2"], "timestamp": [1, 2], "rating": [4.5, None]})
    ratings = Dataset("rated", frame, catalogue).ratings_E
    assert ratings[0] == 4.5
    assert np.isnan(ratings[1])


def test_items_the_catalogue_lacks_are_dropped_with_a_notice(catalogue):
    frame = pl.DataFrame({"user": ["u", "u", "v"], "item": ["i1", "ghost", "ghost"], "timestamp": [1, 2, 3]})
    dataset = Dataset("haunted", frame, catalogue)
    assert dataset.users == ["u"]
    assert dataset.notices == ("interactions: dropped 2 whose item is not in the catalogue (first: 'ghost')",)


def test_items_nobody_touched_stay_in_the_catalogue(catalogue):
    dataset = Dataset("cold", pl.DataFrame({"user": ["u"], "item": ["i1"], "timestamp": [1]}), catalogue)
    assert len(dataset.catalogue) == 5
    assert dataset.describe()["items_cold"] == 4


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": ["u"], "item": ["i1"], "at": [1]}, "no column 'timestamp'"),
        ({"user": ["u"], "item": ["i1"], "time": [1], "timestmap": [1]}, "nearest: timestmap"),
        ({"user": [None], "item": ["i1"], "timestamp": [1]}, "user is missing"),
        ({"user": ["u"], "item": ["i1"], "timestamp": ["noon"]}, "interactions: "),
        ({"user": ["u"], "item": ["ghost"], "timestamp": [1]}, "no interactions are left"),
    ],
)
def test_faulty_interactions_are_refused(catalogue, columns, message):
    with pytest.raises(ThinkrankError, match=message):
        Dataset("faulty", pl.DataFrame(columns), catalogue)


def test_a_saved_data_set_comes_back_the_same(dataset, tmp_path):
    dataset.save(tmp_path / "saved")
    loaded = Dataset.load(tmp_path / "saved")
    assert loaded.interactions.equals(dataset.interactions)
    assert loaded.fingerprint == dataset.fingerprint
    assert (loaded.name, loaded.notices, loaded.filters) == (dataset.name, dataset.notices, dataset.filters)
    assert sorted(file.name for file in (tmp_path / "saved").iterdir()) == [
        "catalogue.parquet",
        "dataset.json",
        "interactions.parquet",
    ]


def test_changed_contents_are_found_out(dataset, tmp_path):
    dataset.save(tmp_path)
    dataset.interactions.with_columns(pl.col("timestamp") + 1).write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(ThinkrankError, match="damaged: the tables have the fingerprint"):
        Dataset.load(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"name": "x"}'])
def test_a_damaged_record_is_found_out(dataset, tmp_path, damage):
    dataset.save(tmp_path)
    (tmp_path / "dataset.json").write_text(damage)
    with pytest.raises(ThinkrankError, match=r"dataset\.json: damaged"):
        Dataset.load(tmp_path)


def test_a_folder_without_a_data_set_says_so(tmp_path):
    with pytest.raises(ThinkrankError, match="is not a saved data set"):
        Dataset.load(tmp_path)


@given(events=EVENTS, data=st.data())
def test_the_fingerprint_does_not_depend_on_row_order_where_times_differ(build_dataset, events, data):
    distinct = list({(user, time): (user, item, time) for user, item, time in events}.values())
    shuffled = data.draw(st.permutations(distinct))
    assert build_dataset(shuffled).fingerprint == build_dataset(distinct).fingerprint


def test_the_fingerprint_ignores_name_and_column_order_and_sees_every_value(catalogue):
    frame = pl.DataFrame({"user": ["u", "v"], "item": ["i1", "i2"], "timestamp": [1, 2], "rating": [1.0, None]})
    base = Dataset("one", frame, catalogue).fingerprint
    assert Dataset("two", frame.select(reversed(frame.columns)), catalogue, notices=("x",)).fingerprint == base
    changes = {"user": ["u", "w"], "item": ["i1", "i3"], "timestamp": [1, 3], "rating": [1.0, 0.0]}
    others = {
        Dataset("one", frame.with_columns(pl.Series(name, new)), catalogue).fingerprint for name, new in changes.items()
    }
    retitled = Catalogue(catalogue.frame.with_columns(title=pl.col("title").str.replace("Heat", "Cold")))
    others.add(Dataset("one", frame, retitled).fingerprint)
    assert len(others | {base}) == 6


def test_text_that_moves_between_neighbours_changes_the_fingerprint():
    def of(*titles: str) -> str:
        catalogue = Catalogue(pl.DataFrame({"item": ["a", "b"], "title": titles}))
        return Dataset("x", pl.DataFrame({"user": ["u"], "item": ["a"], "timestamp": [1]}), catalogue).fingerprint

    assert of("ab", "c") != of("a", "bc")


PROGRAM = """
import json, sys
import polars as pl
from thinkrank.data import Catalogue, Dataset, split_dataset
categories = [["x", "y"], [], None, ["z"], ["y"]]
catalogue = Catalogue(pl.DataFrame({"item": list("abcde"), "title": list("ABCDE"), "categories": categories}))
rows = [(f"u{i % 7}", "abcde"[i * i % 5], i % 11) for i in range(60)]
dataset = Dataset("x", pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"), catalogue)
split = split_dataset(dataset)
json.dump([dataset.fingerprint, split.test.positions.tolist(), split.manifest()], sys.stdout)
"""


def test_fingerprint_and_split_do_not_depend_on_the_hash_seed():
    answers = set()
    for seed in ("0", "1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
        answers.add(run.stdout)
    assert len(answers) == 1


def test_the_fingerprint_of_a_known_data_set_never_changes():
    # A new value here means every saved data set of every user is called damaged.
    catalogue = Catalogue(
        pl.DataFrame({"item": ["a", "b"], "title": ["Ä", "B"], "categories": [["x"], None], "price": [1.5, None]})
    )
    frame = pl.DataFrame({"user": ["u", "v"], "item": ["a", "b"], "timestamp": [1, 2], "rating": [0.5, None]})
    assert (
        Dataset("x", frame, catalogue).fingerprint == "d626dcd4b6bad776a3e988acfecc4ba42bc0a8bc8b10f83944a5132722d76e3e"
    )


def test_a_description_is_json_and_counts_right(dataset):
    description = dataset.describe()
    json.dumps(description)
    assert (description["users"], description["items"], description["interactions"]) == (4, 5, 11)
    assert description["density"] == pytest.approx(11 / 20)
    assert description["history_length"]["max"] == 5
    assert description["dates"] == {"first": "1970-01-01T00:00:10+00:00", "last": "1970-01-01T00:01:30+00:00"}
    assert description["text_coverage"] == {"title": 1.0}
