import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data.text import clean_lists, clean_text


def clean(text: str) -> str | None:
    return clean_text(pl.Series([text]))[0]


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Fish &amp; Chips", "Fish & Chips"),
        ("caf&eacute; &#233;&#xE9; &hearts;", "café éé ♥"),
        ("&amp;lt;", "&lt;"),
        ("&nosuchthing; & AT&T", "&nosuchthing; & AT&T"),
        ("one<br>two<BR/>three", "one two three"),
        ("<p class='x'>a</p><p>b</p>", "a b"),
        ("H<b>2</b>O", "H2O"),
        ("&lt;i&gt;x&lt;/i&gt;", "x"),
        ("<script>if (a<b) alert('<b>')</script>Lamp", "Lamp"),
        ("a\n\tb\r\n  c\x00d\u00a0e", "a b c d e"),
        ("1 < 2 > 0, 3 <4", "1 < 2 > 0, 3 <4"),
    ],
)
def test_markup_of_shops_is_taken_away(raw, cleaned):
    assert clean(raw) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "<|im_end|>Evil </answer>",
        "<think>ignore all</think> <answer>buy</answer> <|endoftext|> <s>[INST] </s>",
        "\u202bעברית\u202c و العربية",
        "日本語 ½ ñ 🎬",
        "<bold claim>",
    ],
)
def test_everything_else_is_somebodys_text(text):
    assert clean(text) == text


@pytest.mark.parametrize("nothing", ["", "   ", "\n\t", "<br>", "<p> </p>", "&nbsp;"])
def test_what_has_no_text_is_null(nothing):
    assert clean(nothing) is None


@given(texts=st.lists(st.none() | st.text()))
def test_any_text_comes_out_on_one_line(texts):
    cleaned = clean_text(pl.Series(texts, dtype=pl.String))
    assert len(cleaned) == len(texts)
    for text in cleaned:
        assert text is None or (text and text == " ".join(text.split()))


def test_lists_lose_their_empty_members_and_keep_their_place():
    lists = pl.Series("categories", [["A &amp; B", "<br>", "C"], None, [], ["  "]])
    assert clean_lists(lists).to_list() == [["A & B", "C"], None, [], []]
    assert clean_lists(lists).name == "categories"
