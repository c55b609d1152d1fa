import polars as pl
import pytest

from thinkrank.data.columns import categories, number, price, year


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12,50", 12.5),
        ("$1,299.99", 1299.99),
        ("17,11 €", 17.11),
        ("€12.50", 12.5),
        ("12.50 USD", 12.5),
        ("EUR 1.299,00", 1299.0),
        ("1 299,00 €", 1299.0),
        ("1\u00a0299,00\u00a0€", 1299.0),
        ("CHF 1'299.50", 1299.5),
        ("1,299", 1299.0),
        ("1,299,000", 1299000.0),
        ("1.299.000", 1299000.0),
        ("5", 5.0),
        ("5,-", 5.0),
        ("0.99", 0.99),
        ("1e3", 1000.0),
        ("from 14.99", None),
        ("10-20", None),
        ("12,5,0", None),
        ("-3", None),
        ("free", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_a_price_is_read_or_nothing(text, value):
    assert price(pl.Series([text], dtype=pl.String)).to_list() == [value]


def test_a_mark_before_three_digits_is_what_the_column_says():
    assert price(pl.Series(["1.299", "17,11"])).to_list() == [1299.0, 17.11]
    assert price(pl.Series(["1,299", "17.11"])).to_list() == [1299.0, 17.11]
    assert number(pl.Series(["0.125", "3.5"])).to_list() == [0.125, 3.5]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['Books', 'Sci-Fi']", ["Books", "Sci-Fi"]),
        ("['Books' 'Sci-Fi']", ["Books", "Sci-Fi"]),
        ("""["Children's", 'Sci-Fi']""", ["Children's", "Sci-Fi"]),
        ("('a', 'b')", ["a", "b"]),
        ("[]", []),
        ('["a", "b"]', ["a", "b"]),
        ("a|b", ["a", "b"]),
        ("[New] things", ["[New] things"]),
        (None, None),
    ],
)
def test_categories_are_read_from_lists_as_programs_write_them(text, value):
    assert categories(pl.Series([text, "x"], dtype=pl.String)).to_list()[0] == value


def test_a_semicolon_separates_where_no_bar_does():
    assert categories(pl.Series(["a;b", "c"])).to_list() == [["a", "b"], ["c"]]
    assert categories(pl.Series(["a;b", "c|d"])).to_list() == [["a;b"], ["c", "d"]]


def test_lists_of_any_type_are_categories():
    assert categories(pl.Series([["x"], ["y"]], dtype=pl.Array(pl.String, 1))).to_list() == [["x"], ["y"]]
    assert categories(pl.Series([[["x"], ["y"]], [], None])).to_list() == [["x", "y"], [], None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1999", "1999.0", "2020-05-01", "01.05.2020", "99", None], [1999, 1999, 2020, 2020, None, None]),
        ([1999, None], [1999, None]),
        (pl.Series(["2020-05-01"]).str.to_date(), [2020]),
    ],
)
def test_years_are_read_from_dates_too(values, expected):
    assert year(pl.Series(values)).to_list() == expected
