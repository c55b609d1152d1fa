"""Which columns of a catalogue prompts name, and whether they are there."""

import re

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.catalogue import TEXT_COLUMNS, Catalogue
from thinkrank.data.popularity import COLUMN
from thinkrank.errors import ThinkrankError
from thinkrank.prompts.options import HistoryOptions

ATTRIBUTES = "attributes"
"""Place in a line that stands for the further item fields in parentheses, and for nothing where there are none."""

NO_ATTRIBUTES = ("title", "year", "description", "price", COLUMN, "rating_number", "average_rating")
"""Item fields that are not among the attributes of a line."""

_OFTEN = (*TEXT_COLUMNS, COLUMN, "rating_number", "average_rating")  # presets name these, whatever the catalogue has
_OF_EVENTS = ("age", "rating", "noun")
_PLACE = re.compile(r"\{([^\W\d][\w ]*)\}")


def line_places(options: HistoryOptions) -> tuple[str, ...]:
    """Return the places of a history line that an item fills, always the title and categories among them."""
    named = (name for name in _PLACE.findall(options.line) if name not in _OF_EVENTS)
    return tuple(dict.fromkeys(("title", "categories", ATTRIBUTES, *named)))


def line_columns(options: HistoryOptions, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the columns of the catalogue that a history line shows."""
    named = _PLACE.findall(options.line)
    further = attribute_fields(options) if ATTRIBUTES in named else ()
    return tuple(dict.fromkeys(name for name in (*named, *further) if name in catalogue.frame.columns))


def attribute_fields(options: HistoryOptions) -> tuple[str, ...]:
    """Return the item fields that the attributes of a line are made of."""
    return tuple(name for name in options.item_fields if name not in NO_ATTRIBUTES)


def check_fields(options: HistoryOptions, catalogue: Catalogue) -> None:
    """Refuse item fields and places of a line that name no column.

    Columns that presets name may be absent; they then show nothing.

    Raises:
        ThinkrankError: naming the first one and the columns whose names come near.
    """
    columns = catalogue.frame.columns
    for name in options.item_fields:
        if name not in columns and name not in _OFTEN:
            raise ThinkrankError(f"model.prompt.item_fields: the catalogue has no {_named(name, columns)}")
    for name in _PLACE.findall(options.line):
        if name not in columns and name not in (*_OFTEN, *_OF_EVENTS, ATTRIBUTES):
            raise ThinkrankError(f"model.prompt.line: the catalogue has no {_named(name, columns)}")


def _named(name: str, columns: list[str]) -> str:
    near = did_you_mean(name, columns) or f"; it has {', '.join(columns)}"
    return f"column {name!r}{near}"
