"""What R²ec reads: a user's history with the question, and an item."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from thinkrank.data import Catalogue, History
from thinkrank.language import Backbone, Prompt
from thinkrank.prompts.history import HistoryTexts
from thinkrank.prompts.marks import marks_of
from thinkrank.prompts.options import PromptOptions
from thinkrank.prompts.shown import first_shown


@dataclass(frozen=True)
class UserPrompt:
    """Hold a rendered history.

    Attributes:
        prompt: ids up to where the assistant writes.
        line_ends: position of the last token of each history line that fitted, oldest first; where items are tokens,
            the position of each item.
    """

    prompt: Prompt
    line_ends: tuple[int, ...]


def named(parts: Sequence[str | int], titles: Sequence[str]) -> str:
    """Write words and catalogue rows in turn as text: rows by their titles, with a comma between two of them."""
    found = ""
    for before, part in pairwise(("", *parts)):
        found += part if isinstance(part, str) else f"{',' if isinstance(before, int) else ''} {titles[part]}"
    return found


class Prompts:
    """Render one catalogue with one tokenizer.

    Args:
        backbone: whose tokenizer and chat template are used. If it has `items`, a history is a row of these tokens
            behind what every sequence begins with, and the question stands behind it.
        catalogue: the items.
        options: the words and budgets.
        asks: whether a question stands behind a history of item tokens; who only reads thoughts needs none.
    """

    def __init__(self, backbone: Backbone, catalogue: Catalogue, options: PromptOptions, *, asks: bool = True) -> None:
        self.options, self.catalogue, self._items = options, catalogue, backbone.items
        self._texts = HistoryTexts(backbone, catalogue, options)
        is_asked = asks or self._items is None
        self._question = [*self._texts.words(options.question), *self._texts.frame.after] if is_asked else []
        self._item_opening = self._texts.words(options.item_opening)
        self.closing_ids = self._texts.closing_ids

    def user(self, history: History, *, window: int | None = None) -> UserPrompt:
        """Render the newest lines that fit the window and the budget; the question and the turn's end always fit.

        Args:
            history: oldest first; may be empty.
            window: how many interactions to show; the options' `history_window` by default.
        """
        frame, shown = self._texts.frame, history.last(window or self.options.history_window)
        if self._items is not None:
            shown = history[first_shown(len(history), len(shown), self.options.history_step) :]
            marks = marks_of(shown, self.options.marks).tolist()
            ids = [*self.beginning, *self._items.ids(shown.items.tolist(), marks)]
            line_ends = list(range(len(self.beginning), len(ids)))
        else:
            ids, line_ends = [*frame.before, *self._texts.opening_ids], []
            for line in self._texts.lines(shown):
                ids += line
                line_ends.append(len(ids) - 1)
        return UserPrompt(Prompt.given([*ids, *self._question]), tuple(line_ends))

    @property
    def answers_at_lines(self) -> bool:
        """Tell whether an answer without a thought is read at the newest item, and not behind a closing."""
        return self._items is not None

    def unthought(self, history: History) -> Prompt:
        """Render what an answer without a thought is read behind, to its last token."""
        user = self.user(history)
        if not self.answers_at_lines:
            return self.close(user.prompt)
        return Prompt.given(list(user.prompt.ids[: len(self.beginning) + len(user.line_ends)]))

    @property
    def beginning(self) -> tuple[int, ...]:
        """Return the token that every sequence of the model begins with."""
        return self._texts.frame.before[:1]

    def close(self, prompt: Prompt, thought: Sequence[int] = ()) -> Prompt:
        """Put the (sampled) thought and the closing behind a prompt; its last token is where the vector is read."""
        return prompt.then(list(thought), action=True).then(self.closing_ids, action=False)

    def text(self, text: str) -> list[int]:
        """Tokenise untrusted text, such as a thought that was not sampled."""
        return self._texts.text(text)

    def naming(self, parts: Sequence[str | int], titles: Sequence[str]) -> list[int]:
        """Tokenise words and catalogue rows in turn; a row is the token of its item, or its title."""
        if self._items is None:
            return self.text(named(parts, titles))
        pieces = (self.text(part) if isinstance(part, str) else self._items.ids([part]) for part in parts)
        return [token for piece in pieces for token in piece]

    def item(self, row: int) -> Prompt:
        """Render one catalogue item; its last token is where the vector is read."""
        frame, shown = self._texts.frame, [*self._item_opening, *self._texts.item(row)]
        if self.options.item_in_chat:
            return self.close(Prompt.given([*frame.before, *shown, *frame.after]))
        return self.close(Prompt.given([*self.beginning, *shown]))
