"""Histories and items as token ids.

Every piece is tokenised once and joined as ids. What a title can do is take up room: it can't open or close a turn,
and it can't push out what the template puts behind it.
"""

import re

import numpy as np
import polars as pl

from thinkrank.data import Catalogue, History
from thinkrank.language import Backbone, ChatFrame, encode_text
from thinkrank.prompts.fields import ATTRIBUTES, attribute_fields, check_fields, line_places
from thinkrank.prompts.options import HistoryOptions


class HistoryTexts:
    """Tokenise one catalogue with one tokenizer; titles are tokenised once.

    Args:
        backbone: whose tokenizer and chat template are used.
        catalogue: the items.
        options: the words and budgets.

    Raises:
        ThinkrankError: if they name a column that the catalogue has not.
    """

    def __init__(self, backbone: Backbone, catalogue: Catalogue, options: HistoryOptions) -> None:
        check_fields(options, catalogue)
        self.catalogue = catalogue
        self._options = options
        self._places = re.compile(r"(\{(?:" + "|".join(map(re.escape, line_places(options))) + r")\})")
        self._tokenizer = backbone.tokenizer
        self.frame = ChatFrame.of(backbone.tokenizer)
        self._fields: dict[tuple[int, str], list[int]] = {}
        self._line_parts: dict[str, list[int]] = {}
        self.opening_ids = self.words(options.opening)
        self.closing_ids = self.words(options.closing)

    def words(self, template: str) -> list[int]:
        """Tokenise a piece of a template."""
        return encode_text(self._tokenizer, template.replace("{noun}", self._options.noun))

    def text(self, text: str) -> list[int]:
        """Tokenise untrusted text, such as a thought that was not sampled."""
        return encode_text(self._tokenizer, text)

    def item(self, row: int, *, own: bool = False) -> list[int]:
        """Tokenise an item's fields within their budget.

        Args:
            row: of the catalogue.
            own: the item is what a training event took, which must not count in it: a field is then taken from the
                column of its name and ``_without_own``, if there is one; see `thinkrank.data.popularity`.
        """
        return encode_text(self._tokenizer, self._item_text(row, own))[: self._options.item_tokens]

    def lines(self, history: History) -> list[list[int]]:
        """Take the newest lines within the budget, oldest first. The newest one is there even if it must be cut."""
        lines: list[list[int]] = []
        room = self._options.history_tokens
        for position in reversed(range(len(history))):
            line = self._line(history, position)
            if len(line) > room:
                if not lines:
                    lines.append(line[-room:])
                break
            lines.append(line)
            room -= len(line)
        return lines[::-1]

    def _line(self, history: History, position: int) -> list[int]:
        row = int(history.items[position])
        fill = {"{age}": _age(history, position), "{rating}": _rating(history, position)}
        line: list[int] = []
        for piece in self._places.split(self._options.line):
            line += self._field(row, piece[1:-1]) if self._places.fullmatch(piece) else self._part(piece, fill)
        return [*line, *(self.closing_ids if self._options.closing == "\n" else self._part("\n"))]

    def _part(self, template: str, fill: dict[str, str] | None = None) -> list[int]:
        """Tokenise a piece of a line; pieces that are the same in every line are kept."""
        filled = template
        for name, value in (fill or {}).items():
            filled = filled.replace(name, value)
        if filled != template:
            return self.words(filled)
        if template not in self._line_parts:
            self._line_parts[template] = self.words(template)
        return self._line_parts[template]

    def _field(self, row: int, name: str) -> list[int]:
        """Tokenise one field of an item within the budget of titles; none if there is no value."""
        if (row, name) not in self._fields:
            ids = encode_text(self._tokenizer, self._value(row, name))
            self._fields[row, name] = ids[: self._options.title_tokens]
        return self._fields[row, name]

    def _item_text(self, row: int, own: bool) -> str:
        """Write the item's fields: the first one bare, the others as `name: value` lines where there is a value."""
        texts: list[str] = []
        for field in self._options.item_fields:
            without = f"{field}_without_own"
            if value := self._value(row, without if own and without in self.catalogue.frame.columns else field):
                texts.append(f"{field}: {value}" if texts else value)
        return "\n".join(texts)

    def _value(self, row: int, field: str) -> str:
        """Return a field of an item as text, or its attributes in parentheses; empty if it has none."""
        if field == ATTRIBUTES and field not in self.catalogue.frame.columns:
            values = filter(None, (self._value(row, name) for name in attribute_fields(self._options)))
            return f" ({told})" if (told := ", ".join(values)) else ""
        value = self.catalogue.frame[field][row] if field in self.catalogue.frame.columns else None
        if value is None:
            return ""
        return ", ".join(map(str, value)) if isinstance(value, pl.Series) else str(value)


def _age(history: History, position: int) -> str:
    """Tell the time before the newest interaction, in the paper's form ("3d 4.0h ago"); empty if times are unknown.

    The paper's text counts from the time of the request, which is the target's: it tells when the target was taken.
    """
    if history.times is None:
        return ""
    seconds = int(history.times[-1] - history.times[position])
    days, rest = divmod(seconds, 86_400)
    if days:
        return f"{days}d {rest / 3600:.1f}h ago"
    hours, rest = divmod(rest, 3600)
    return f"{hours}h {rest / 60:.1f}min ago"


def _rating(history: History, position: int) -> str:
    if history.ratings is None or np.isnan(history.ratings[position]):
        return "no rating"
    return f"{history.ratings[position]:g}"
