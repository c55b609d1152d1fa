"""Prompts show the columns they are told to, and a column that is not there is refused with the nearest name."""

import polars as pl
import pytest

from thinkrank.data import Catalogue, History
from thinkrank.errors import ThinkrankError
from thinkrank.language import load_backbone
from thinkrank.prompts.fields import check_fields, line_columns
from thinkrank.prompts.history import HistoryTexts
from thinkrank.prompts.options import PairPromptOptions

WINES = Catalogue(
    pl.DataFrame(
        {
            "item": ["w0", "w1", "w2"],
            "title": ["Barolo", "Riesling", "Mystery"],
            "color": ["red", "white", None],
            "region": ["Piemonte", "Mosel", None],
        }
    )
)


def lines(**options) -> list[str]:
    backbone = load_backbone("tiny", texts=[*WINES.titles, "red white Piemonte Mosel ()"])
    texts = HistoryTexts(backbone, WINES, PairPromptOptions(**options))
    return [backbone.tokenizer.decode(line).strip() for line in texts.lines(History.of([0, 1, 2]))]


def test_a_line_shows_any_column_by_its_name():
    assert lines(line="{title}, {color}") == ["Barolo, red", "Riesling, white", "Mystery,"]


def test_attributes_stand_in_parentheses_and_nowhere_if_there_are_none():
    shown = lines(line="{title}{attributes}", item_fields=("title", "year", "color", "region"))
    assert shown == ["Barolo (red, Piemonte)", "Riesling (white, Mosel)", "Mystery"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"item_fields": ("title", "colour")},
            "model.prompt.item_fields: the catalogue has no column 'colour'; nearest",
        ),
        ({"line": "{title} {regoin}"}, "model.prompt.line: the catalogue has no column 'regoin'; nearest: region"),
        ({"item_fields": ("xyzzy",)}, "it has item, title, color, region"),
    ],
)
def test_a_column_that_is_not_there_is_refused(options, said):
    with pytest.raises(ThinkrankError, match=said):
        check_fields(PairPromptOptions(**options), WINES)


def test_what_presets_name_may_be_absent():
    check_fields(PairPromptOptions(item_fields=("title", "brand", "rating_number"), line="{title} {age}"), WINES)
    assert line_columns(PairPromptOptions(line="{title}{attributes}", item_fields=("color", "year")), WINES) == (
        "title",
        "color",
    )
