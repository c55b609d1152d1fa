"""Files that say who asks."""

import polars as pl
import pytest

from thinkrank.data.asked import read_who
from thinkrank.errors import ThinkrankError


def nobody():
    """No data set is asked for."""
    raise AssertionError


def test_lists_under_a_name_that_nothing_reads_are_refused(tmp_path):
    file = tmp_path / "users.parquet"
    pl.DataFrame({"user": ["a"], "history": [["1", "2"]]}).write_parquet(file)
    with pytest.raises(ThinkrankError, match="nothing reads the lists of 'history': call the column items"):
        read_who(file, nobody, slice(0, 1))
    pl.DataFrame({"user": ["a"], "age": [3], "items": [["1", "2"]]}).write_parquet(file)
    assert read_who(file, nobody, slice(0, 1)).users == ("a",)


def test_a_table_of_users_may_call_its_columns_as_the_tables_of_a_data_set_do(tmp_path, caplog):
    file = tmp_path / "people.csv"
    file.write_text("customer_id;sku;date\nc1;w1;2024-01-31\nc1;w2;2024-01-30\n")
    asked = read_who(file, nobody)
    assert asked.users == ("c1",)
    assert [asked.histories[0].catalogue.ids[row] for row in asked.histories[0].items] == ["w2", "w1"]
    assert "its fields end in semicolons" in caplog.text
    assert "read customer_id as user, sku as item, date as timestamp" in caplog.text


def test_a_table_with_a_row_for_each_user_may_call_them_as_a_data_set_does(tmp_path):
    file = tmp_path / "people.parquet"
    pl.DataFrame({"customer_id": ["u1", "u2"], "items": [["a"], ["b", "a"]]}).write_parquet(file)
    asked = read_who(file, dataset=nobody)
    assert asked.users == ("u1", "u2")
    assert [len(history) for history in asked.histories] == [1, 2]


def test_columns_that_hold_no_plain_values_are_refused(tmp_path):
    file = tmp_path / "people.parquet"
    pl.DataFrame({"user": [["a"]], "item": ["i"]}).write_parquet(file)
    with pytest.raises(ThinkrankError, match=r"user is List\(String\). Give one plain value in each row"):
        read_who(file, nobody)


def test_two_columns_that_may_be_the_item_are_refused(tmp_path):
    file = tmp_path / "people.csv"
    file.write_text("user,sku,product\nc1,w1,p1\n")
    with pytest.raises(ThinkrankError, match="sku and product may each be the item: call the one that is meant item"):
        read_who(file, nobody)


def test_advice_names_no_option_that_a_table_of_users_lacks(tmp_path):
    file = tmp_path / "people.csv"
    file.write_text("user,item,time\nc1,w1,01/02/2024\n")
    with pytest.raises(ThinkrankError, match=r"may be day/month or month/day .*\. Write them as 2024-01-31\.$"):
        read_who(file, nobody)
    file.write_bytes("user,item\nпокупатель,вино\n".encode("cp1251"))
    with pytest.raises(ThinkrankError, match=r"makes no words .*\. Save it as UTF-8\.$"):
        read_who(file, nobody)
