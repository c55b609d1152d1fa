"""Histories and items as token ids.

Every piece is tokenised once and joined as ids. What a title can do is take up room: it can't open or close a turn,
and it can't push out the closing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from thinkrank.data import Catalogue, History
from thinkrank.language import Backbone, ChatFrame, Prompt, encode_text
from thinkrank.retrieve.config import PromptOptions


@dataclass(frozen=True)
class UserPrompt:
    """A rendered history.

    Attributes:
        prompt: ids up to where the assistant writes.
        line_ends: position of the last token of each history line that fitted, oldest first.
    """

    prompt: Prompt
    line_ends: tuple[int, ...]


class Prompts:
    """Renders one catalogue with one tokenizer; titles are tokenised once.

    Args:
        backbone: whose tokenizer and chat template are used.
        catalogue: the items.
        options: the words and budgets.
    """

    def __init__(self, backbone: Backbone, catalogue: Catalogue, options: PromptOptions) -> None:
        self.options = options
        self.catalogue = catalogue
        self._tokenizer = backbone.tokenizer
        self._frame = ChatFrame.of(backbone.tokenizer)
        self._opening = self._words(options.opening)
        self._question = self._words(options.question)
        self._titles: dict[int, list[int]] = {}
        self._line_parts: dict[str, list[int]] = {}
        self.closing_ids = self._words(options.closing)

    def user(self, history: History, *, window: int | None = None) -> UserPrompt:
        """Render the newest lines that fit the window and the budget; the question and the turn's end always fit.

        Args:
            history: oldest first; may be empty.
            window: how many interactions to show; the options' `history_window` by default.
        """
        lines = self._lines(history.last(window or self.options.history_window))
        ids = [*self._frame.before, *self._opening]
        line_ends = []
        for line in lines:
            ids += line
            line_ends.append(len(ids) - 1)
        return UserPrompt(Prompt.given([*ids, *self._question, *self._frame.after]), tuple(line_ends))

    def close(self, prompt: Prompt, thought: Sequence[int] = ()) -> Prompt:
        """Put the (sampled) thought and the closing behind a prompt; its last token is where the vector is read."""
        return prompt.then(list(thought), action=True).then(self.closing_ids, action=False)

    def text(self, text: str) -> list[int]:
        """Ids of untrusted text, such as a thought that was not sampled."""
        return encode_text(self._tokenizer, text)

    def item(self, row: int) -> Prompt:
        """Render one catalogue item; its last token is where the vector is read."""
        text = encode_text(self._tokenizer, self._item_text(row))[: self.options.item_tokens]
        opening = self._words(self.options.item_opening)
        if self.options.item_in_chat:
            return self.close(Prompt.given([*self._frame.before, *opening, *text, *self._frame.after]))
        start = self._frame.before[:1]  # the token every sequence of this model begins with
        return self.close(Prompt.given([*start, *opening, *text]))

    def _words(self, template: str) -> list[int]:
        return encode_text(self._tokenizer, template.replace("{noun}", self.options.noun))

    def _lines(self, history: History) -> list[list[int]]:
        """The newest lines within the budget, oldest first. The newest one is always there, cut if it must be."""
        lines: list[list[int]] = []
        room = self.options.history_tokens
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
        before, _, after = self.options.line.partition("{title}")
        title = self._title(int(history.items[position]))
        end = self.closing_ids if self.options.closing == "\n" else self._part("\n")
        fill = {"{age}": _age(history, position), "{rating}": _rating(history, position)}
        return [*self._part(before, fill), *title, *self._part(after, fill), *end]

    def _part(self, template: str, fill: dict[str, str] | None = None) -> list[int]:
        """Ids of a piece of a line; pieces that are the same in every line are kept."""
        filled = template
        for name, value in (fill or {}).items():
            filled = filled.replace(name, value)
        if filled != template:
            return self._words(filled)
        if template not in self._line_parts:
            self._line_parts[template] = self._words(template)
        return self._line_parts[template]

    def _title(self, row: int) -> list[int]:
        if row not in self._titles:
            title = self.catalogue.titles[row]
            self._titles[row] = encode_text(self._tokenizer, title)[: self.options.title_tokens]
        return self._titles[row]

    def _item_text(self, row: int) -> str:
        """The item's fields: the first one bare, the others as `name: value` lines where there is a value."""
        texts: list[str] = []
        for field in self.options.item_fields:
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
