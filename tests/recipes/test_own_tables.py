"""What the teacher of rules reasons about on a table of your own is what the prompt shows."""

import polars as pl
import pytest

from thinkrank.data import Catalogue
from thinkrank.errors import ThinkrankError
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.ranking import rank_settings, shown_as_reasoned

NUM = 12
WINES = Catalogue(
    pl.DataFrame(
        {
            "item": [f"w{n}" for n in range(NUM)],
            "title": [f"Wine {n}" for n in range(NUM)],
            "color": [("red", "white", "rosé")[n % 3] for n in range(NUM)],
            "region": [("Mosel", "Rioja", "Bordeaux", "Piemonte")[n % 4] for n in range(NUM)],
            "barcode": [f"{n:08}" for n in range(NUM)],
        }
    )
)


def settings(*assignments: str, source: str = "table"):
    return rank_settings(Layers(source=source, assignments=assignments))


def test_the_teachers_columns_are_shown_by_default(caplog):
    prompt = shown_as_reasoned(settings(), WINES).model.prompt
    assert prompt.item_fields == ("title", "popularity", "year", "categories", "brand", "color", "region")
    assert prompt.line == "{title}{attributes}"
    assert not caplog.records


def test_films_are_shown_as_they_were():
    films = Catalogue(WINES.frame.select("item", "title").with_columns(categories=pl.Series([["a"], ["b"]] * 6)))
    prompt = shown_as_reasoned(settings(source="movielens-100k"), films).model.prompt
    assert prompt.item_fields == ("title", "popularity", "year", "categories", "brand")
    assert prompt.line == "{title} ({categories})"


def test_what_is_chosen_stays_and_what_it_hides_from_the_model_is_warned_about(caplog):
    chosen = settings('model.prompt.item_fields=["title", "color"]')
    prompt = shown_as_reasoned(chosen, WINES).model.prompt
    assert prompt.item_fields == ("title", "color")
    assert "the teacher reasons about region, which model.prompt.item_fields does not show" in caplog.text
    caplog.clear()
    shown_as_reasoned(settings('model.prompt.line="{title}"'), WINES)
    assert "color, region, which model.prompt.line does not show" in caplog.text
    caplog.clear()
    shown_as_reasoned(settings('model.prompt.line="{title}"', "model.thinks=false"), WINES)
    assert not caplog.records


def test_an_unknown_column_is_refused_with_the_nearest_name():
    with pytest.raises(ThinkrankError, match="no column 'colour'; nearest: color"):
        shown_as_reasoned(settings('model.prompt.item_fields=["title", "colour"]'), WINES)


def test_settings_that_were_fitted_stay_as_they_are():
    fitted = shown_as_reasoned(settings(), WINES)
    assert shown_as_reasoned(fitted, WINES) == fitted
