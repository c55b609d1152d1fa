"""Texts in Arrow's layout against a list of the same."""

import zlib

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data.texts import Texts

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(st.lists(WORDS), st.lists(WORDS), st.slices(6))
def test_texts_are_the_list_of_them(texts, asked, part):
    found = Texts.of(texts)
    assert list(found) == texts
    assert found == texts
    assert found == Texts(pl.Series(texts, dtype=pl.String))
    assert found != [*texts, "more"]
    assert found[part] == texts[part]
    assert len(found) == len(texts)
    for text in (*texts, *asked):
        assert (text in found) == (text in texts)
        assert found.place(text) == (texts.index(text) if text in texts else None)
    assert found.get("longer than any", -7) == -7


def test_texts_of_one_checksum_are_told_apart():
    one, other = "plumless", "buckeroo"
    assert zlib.crc32(one.encode()) == zlib.crc32(other.encode())
    texts = Texts.of([one, "between", other])
    assert [texts.place(text) for text in (one, other, "between")] == [0, 2, 1]
    assert Texts.of([one]).place(other) is None


@pytest.mark.parametrize("nothing", [None, 3, "\ud800"])
def test_what_is_no_text_is_not_among_them(nothing):
    assert nothing not in Texts.of(["3", "None"])


def test_they_are_shown_short():
    assert repr(Texts.of(list("abcdefg"))) == "Texts(['a', 'b', 'c', 'd', 'e'], ...)"


def test_a_list_of_other_things_is_not_equal_to_texts():
    assert Texts.of(["1", "2"]) == ["1", "2"]
    assert Texts.of(["1", "2"]) != [1, 2]
