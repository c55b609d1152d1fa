"""What R²ec reads: a user's history with the question, and an item."""

from collections.abc import Sequence
from dataclasses import dataclass

from thinkrank.data import Catalogue, History
from thinkrank.language import Backbone, Prompt
from thinkrank.prompts.history import HistoryTexts
from thinkrank.prompts.options import PromptOptions


@dataclass(frozen=True)
class UserPrompt:
    """Hold a rendered history.

    Attributes:
        prompt: ids up to where the assistant writes.
        line_ends: position of the last token of each history line that fitted, oldest first.
    """

    prompt: Prompt
    line_ends: tuple[int, ...]


class Prompts:
    """Render one catalogue with one tokenizer.

    Args:
        backbone: whose tokenizer and chat template are used.
        catalogue: the items.
        options: the words and budgets.
    """

    def __init__(self, backbone: Backbone, catalogue: Catalogue, options: PromptOptions) -> None:
        self.options, self.catalogue = options, catalogue
        self._texts = HistoryTexts(backbone, catalogue, options)
        self._question = self._texts.words(options.question)
        self._item_opening = self._texts.words(options.item_opening)
        self.closing_ids = self._texts.closing_ids

    def user(self, history: History, *, window: int | None = None) -> UserPrompt:
        """Render the newest lines that fit the window and the budget; the question and the turn's end always fit.

        Args:
            history: oldest first; may be empty.
            window: how many interactions to show; the options' `history_window` by default.
        """
        frame = self._texts.frame
        ids = [*frame.before, *self._texts.opening_ids]
        line_ends = []
        for line in self._texts.lines(history.last(window or self.options.history_window)):
            ids += line
            line_ends.append(len(ids) - 1)
        return UserPrompt(Prompt.given([*ids, *self._question, *frame.after]), tuple(line_ends))

    def close(self, prompt: Prompt, thought: Sequence[int] = ()) -> Prompt:
        """Put the (sampled) thought and the closing behind a prompt; its last token is where the vector is read."""
        return prompt.then(list(thought), action=True).then(self.closing_ids, action=False)

    def text(self, text: str) -> list[int]:
        """Tokenise untrusted text, such as a thought that was not sampled."""
        return self._texts.text(text)

    def item(self, row: int) -> Prompt:
        """Render one catalogue item; its last token is where the vector is read."""
        frame, shown = self._texts.frame, [*self._item_opening, *self._texts.item(row)]
        if self.options.item_in_chat:
            return self.close(Prompt.given([*frame.before, *shown, *frame.after]))
        # The first is the token every sequence of the model begins with.
        return self.close(Prompt.given([*frame.before[:1], *shown]))
