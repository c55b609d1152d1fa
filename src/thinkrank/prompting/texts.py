"""Histories and items as token ids.

Every piece is tokenised once and joined as ids. What a title can do is take up room: it can't open or close a turn,
and it can't push out what the template puts behind it.
"""

import numpy as np
import polars as pl

from thinkrank.data import Catalogue, History
from thinkrank.language import Backbone, ChatFrame, encode_text
from thinkrank.prompting.options import HistoryOptions


class HistoryTexts:
    """Tokenises one catalogue with one tokenizer; titles are tokenised once.

    Args:
        backbone: whose tokenizer and chat template are used.
        catalogue: the items.
        options: the words and budgets.
    """

    def __init__(self, backbone: Backbone, catalogue: Catalogue, options: HistoryOptions) -> None:
        self.catalogue = catalogue
        self._options = options
        self._tokenizer = backbone.tokenizer
        self.frame = ChatFrame.of(backbone.tokenizer)
        self._titles: dict[int, list[int]] = {}
        self._line_parts: dict[str, list[int]] = {}
        self.opening_ids = self.words(options.opening)
        self.closing_ids = self.words(options.closing)

    def words(self, template: str) -> list[int]:
        """Ids of a piece of a template."""
        return encode_text(self._tokenizer, template.replace("{noun}", self._options.noun))

    def text(self, text: str) -> list[int]:
        """Ids of untrusted text, such as a thought that was not sampled."""
        return encode_text(self._tokenizer, text)

    def item(self, row: int) -> list[int]:
        """Ids of an item's fields within their budget."""
        return encode_text(self._tokenizer, self._item_text(row))[: self._options.item_tokens]

    def lines(self, history: History) -> list[list[int]]:
        """The newest lines within the budget, oldest first. The newest one is always there, cut if it must be."""
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
        before, _, after = self._options.line.partition("{title}")
        title = self._title(int(history.items[position]))
        end = self.closing_ids if self._options.closing == "\n" else self._part("\n")
        fill = {"{age}": _age(history, position), "{rating}": _rating(history, position)}
        return [*self._part(before, fill), *title, *self._part(after, fill), *end]

    def _part(self, template: str, fill: dict[str, str] | None = None) -> list[int]:
        """Ids of a piece of a line; pieces that are the same in every line are kept."""
        filled = template
        for name, value in (fill or {}).items():
            filled = filled.replace(name, value)
        if filled != template:
            return self.words(filled)
        if template not in self._line_parts:
            self._line_parts[template] = self.words(template)
        return self._line_parts[template]

    def _title(self, row: int) -> list[int]:
        if row not in self._titles:
            title = self.catalogue.titles[row]
            self._titles[row] = encode_text(self._tokenizer, title)[: self._options.title_tokens]
        return self._titles[row]

    def _item_text(self, row: int) -> str:
        """The item's fields: the first one bare, the others as `name: value` lines where there is a value."""
        texts: list[str] = []
        for field in self._options.item_fields:
            value = self.catalogue.frame[field][row] if field in self.catalogue.frame.columns else None
            if value is not None and len(value := _plain(value)):
                texts.append(f"{field}: {value}" if texts else value)
        return "\n".join(texts)


def _plain(value: object) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, pl.Series) else str(value)


def _age(history: History, position: int) -> str:
    """Time before the newest interaction, in the paper's form ("3d 4.0h ago"); empty if times are unknown."""
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
