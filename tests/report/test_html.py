"""Text from data stays text."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.report.html import item_text, join, tag, text, visible


class Reader(HTMLParser):
    """The elements of a piece of markup with their attributes, and its text, as a browser would take them."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data):
        self.words += data


@given(content=st.text())
def test_whatever_a_text_holds_it_is_one_text(content):
    read = Reader(tag("p", content))
    assert [name for name, _ in read.elements] == ["p"]
    assert read.words == visible(content)


@given(content=st.text())
def test_whatever_an_attribute_holds_it_is_one_attribute(content):
    read = Reader(tag("p", aria_label=content))
    assert read.elements == [("p", {"aria-label": visible(content)})]


@given(content=st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp"])))
def test_nothing_unseen_is_left(content):
    assert all(char.isprintable() or char in "\u200c\u200d" for char in visible(content))
    visible(content).encode()


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("line\nbreak", "line␊break"),
        ("null\x00", "null␀"),
        ("\x7f\x9b", "␡‹U+009B›"),
        ("evil\u202egpj", "evil‹U+202E›gpj"),
        ("\ufeff\ud800", "‹U+FEFF›‹U+D800›"),
        ("👩\u200d🍳 می\u200cخواهم", "👩\u200d🍳 می\u200cخواهم"),
    ],
)
def test_control_characters_show_and_scripts_stay_intact(content, shown):
    assert visible(content) == shown


def test_a_paragraph_keeps_its_line_breaks():
    assert text("a\n\tb\r", keep="\n\t") == "a\n\tb␍"


def test_markup_is_not_escaped_twice():
    assert join(tag("b", "<"), "&", None) == "<b>&lt;</b>&amp;"


def test_names_of_attributes_are_written_as_in_html():
    assert tag("td", class_="x", aria_label="y", colspan=2, id=None) == '<td class="x" aria-label="y" colspan="2"></td>'


def test_a_title_is_isolated_and_runs_in_its_own_direction():
    assert item_text("שלום") == '<bdi dir="auto">שלום</bdi>'
    assert "(no title)" in item_text(" ")
