from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from thinkrank.data import load_impressions
from thinkrank.errors import ThinkrankError
from thinkrank.testing import ListSourceContract


def write_parquet(path, columns, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(path)


@pytest.fixture
def folder(tmp_path):
    behaviors = ["impression_id", "user_id", "impression_time", "article_ids_inview", "article_ids_clicked"]
    behaviors += ["device_type", "next_read_time"]
    morning, noon = datetime(2023, 5, 20, 6), datetime(2023, 5, 20, 12)
    train = [(1, 7, noon, [103, 101, 102], [101], 2, 9.0), (2, 8, morning, [102, 103], [103, 102], 1, None)]
    later = [(3, 7, datetime(2023, 5, 28), [104, 101], [104], 3, 1.0)]
    write_parquet(tmp_path / "train" / "behaviors.parquet", behaviors, train)
    write_parquet(tmp_path / "validation" / "behaviors.parquet", behaviors, later)
    history = ["user_id", "article_id_fixed", "impression_time_fixed"]
    days = [datetime(2023, 5, day) for day in (1, 2, 19)]
    write_parquet(tmp_path / "train" / "history.parquet", history, [(7, [90, 101], days[:2])])
    write_parquet(tmp_path / "validation" / "history.parquet", history, [(7, [101, 91, 92], days)])
    articles = ["article_id", "title", "subtitle", "premium", "published_time", "category_str", "article_type"]
    articles += ["sentiment_label", "sentiment_score", "total_pageviews"]
    known = [
        (101, "Storm", "It blows", True, datetime(2023, 5, 20, 9), "nyheder", "article_default", "Negative", 0.9, 5),
        (102, "Goal", None, False, datetime(2023, 5, 20, 7), "sport", "article_default", "Positive", 0.5, 7),
        (555, "Unseen", None, False, datetime(2023, 5, 20, 7), "sport", "article_default", "Positive", 0.5, 7),
    ]
    write_parquet(tmp_path / "articles.parquet", articles, known)
    return tmp_path


class TestContract(ListSourceContract):
    name = "ebnerd"

    @pytest.fixture
    def path(self, folder):
        return folder


def test_the_official_files_give_a_list_per_impression(folder):
    lists = load_impressions("ebnerd", folder, running_features=False)
    ids = lists.catalogue.ids
    assert ids == ["90", "91", "92", "101", "102", "103", "104"]
    assert [[ids[row] for row in items if row >= 0] for items in lists.items_LN] == [
        ["102", "103"],
        ["103", "101", "102"],
        ["104", "101"],
    ]
    assert lists.feedback().tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert [lists.users[user] for user in lists.users_L] == ["8", "7", "7"]
    assert lists.catalogue.titles[3:5] == ["Storm", "Goal"]
    assert lists.context_LF[:, :3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_histories_are_those_of_the_part(folder):
    lists = load_impressions("ebnerd", folder)
    ids = lists.catalogue.ids
    assert [[ids[row] for row in history.items] for history in lists.histories] == [
        [],
        ["90", "101"],
        ["101", "91", "92"],
    ]
    assert lists.histories[1].times[0] == datetime(2023, 5, 1, tzinfo=UTC).timestamp()


def test_articles_have_features_where_they_are_known(folder):
    lists = load_impressions("ebnerd", folder, running_features=False)
    assert lists.numeric_names == ("log_age", "premium", "sentiment_score")
    # At noon: 103 is unknown, 101 is three hours old, 102 five. At six, 102 is not out yet as far as its date says.
    expected = [[0, 0, 0], [np.log1p(3), 1, 0.9], [np.log1p(5), 0, 0.5]]
    np.testing.assert_allclose(lists.numeric_LNF[1], expected, rtol=1e-6)
    assert lists.numeric_LNF[0, 0, 0] == 0
    category = lists.categorical_LNC[1, :, lists.categorical_names.index("category")]
    assert category.tolist() == [0, 1, 2]


def test_every_part_needs_its_histories(folder):
    (folder / "train" / "history.parquet").unlink()
    with pytest.raises(ThinkrankError, match=r"2 behaviors\.parquet and 1 history\.parquet"):
        load_impressions("ebnerd", folder)


def test_a_missing_column_is_named(folder):
    path = folder / "train" / "behaviors.parquet"
    pl.read_parquet(path).drop("device_type").write_parquet(path)
    with pytest.raises(ThinkrankError, match=r"behaviors\.parquet: no column 'device_type'"):
        load_impressions("ebnerd", folder)


def test_the_test_part_beside_the_others_is_left_out_as_it_does_not_say_what_was_clicked(folder):
    test = [(9, 7, datetime(2023, 6, 2), [104, 101], 1)]
    columns = ["impression_id", "user_id", "impression_time", "article_ids_inview", "device_type"]
    write_parquet(folder / "test" / "behaviors.parquet", columns, test)
    history = ["user_id", "article_id_fixed", "impression_time_fixed"]
    write_parquet(folder / "test" / "history.parquet", history, [(7, [101], [datetime(2023, 5, 1)])])
    lists = load_impressions("ebnerd", folder)
    assert len(lists) == 3
    assert lists.feedback().sum(axis=1).min() == 1
    assert any("1 lists that do not say what was clicked" in notice for notice in lists.notices)
