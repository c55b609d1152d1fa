"""What R2Rank reads: a prefix that all candidates of a user share, and one candidate."""

from thinkrank.data import Catalogue, History
from thinkrank.language import Backbone
from thinkrank.prompts.history import HistoryTexts
from thinkrank.prompts.options import PairPromptOptions


class PairPrompts:
    """Render one catalogue with one tokenizer.

    Prefix and candidate are tokenised apart and joined as ids, so the prefix is the same for every candidate, token for
    token, and can be read once.

    Args:
        backbone: whose tokenizer and chat template are used.
        catalogue: the items.
        options: the words and budgets.
        thinks: whether the candidate's part asks for a thought.
    """

    def __init__(self, backbone: Backbone, catalogue: Catalogue, options: PairPromptOptions, *, thinks: bool) -> None:
        self.options = options
        self._texts = HistoryTexts(backbone, catalogue, options)
        self._question = self._texts.words(options.question)
        self._cue = self._texts.words(options.cue if thinks else options.plain_cue)
        self.closing_ids = tuple(self._texts.closing_ids)

    def prefix(self, history: History) -> tuple[int, ...]:
        """Render the rules and the newest lines that fit; an empty history leaves the lines out."""
        lines = self._texts.lines(history.last(self.options.history_window))
        shown = [token for line in lines for token in line]
        return (*self._texts.frame.before, *self._texts.opening_ids, *shown, *self._question)

    def candidate(self, row: int, *, own: bool = False) -> tuple[int, ...]:
        """Render one item and the cue, up to where the assistant writes; `own` as in `HistoryTexts.item`."""
        return (*self._texts.item(row, own=own), *self._cue, *self._texts.frame.after)

    def text(self, text: str) -> list[int]:
        """Tokenise untrusted text, such as a thought that was not sampled."""
        return self._texts.text(text)
