"""What R2Rank reads: a prefix that all candidates of a user share, and one candidate."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from thinkrank.data import Catalogue, History
from thinkrank.language import Backbone
from thinkrank.prompts.history import HistoryTexts
from thinkrank.prompts.options import PairPromptOptions


@runtime_checkable
class Evidence(Protocol):
    """Someone who knows what the crowd did; see `thinkrank.evidence.PairLines`."""

    def lines(self, history: History, items: Sequence[int], without: int | None = None) -> list[str]:
        """Write some lines about each item after a history, one user left out of what is counted."""
        ...


class PairPrompts:
    """Render one catalogue with one tokenizer.

    Prefix and candidate are tokenised apart and joined as ids, so the prefix is the same for every candidate, token for
    token, and can be read once.

    Args:
        backbone: whose tokenizer and chat template are used.
        catalogue: the items.
        options: the words and budgets.
        thinks: whether the candidate's part asks for a thought.
        evidence: writes lines behind a candidate's text, where the options ask for them.
    """

    def __init__(
        self,
        backbone: Backbone,
        catalogue: Catalogue,
        options: PairPromptOptions,
        *,
        thinks: bool,
        evidence: Evidence | None = None,
    ) -> None:
        self.options, self._evidence = options, evidence
        self._texts = HistoryTexts(backbone, catalogue, options)
        self._question = self._texts.words(options.question)
        self._cue = self._texts.words(options.cue if thinks else options.plain_cue)
        self.closing_ids = tuple(self._texts.closing_ids)

    def prefix(self, history: History) -> tuple[int, ...]:
        """Render the rules and the newest lines that fit; an empty history leaves the lines out."""
        lines = self._texts.lines(history.last(self.options.history_window))
        shown = [token for line in lines for token in line]
        return (*self._texts.frame.before, *self._texts.opening_ids, *shown, *self._question)

    def candidate(self, row: int, *, own: bool = False, evidence: str = "") -> tuple[int, ...]:
        """Render one item, what is known of it beside its text, and the cue, up to where the assistant writes.

        Args:
            row: of the catalogue.
            own: as in `HistoryTexts.item`.
            evidence: lines about the item; untrusted, for they name items.
        """
        known = self.text(f"\n{evidence}")[: self.options.evidence_tokens] if evidence else []
        return (*self._texts.item(row, own=own), *known, *self._cue, *self._texts.frame.after)

    def candidates(self, history: History, rows: Sequence[int], *, user: int | None = None) -> list[tuple[int, ...]]:
        """Render the candidates of one user, with evidence where the options ask for it.

        Args:
            history: of the user; evidence speaks of the part that is shown.
            rows: of the catalogue.
            user: number of a training user who asks. Nothing that he did then speaks for a candidate, the first of
                which is what he chose.
        """
        known = [""] * len(rows)
        if self._evidence is not None and self.options.evidence:
            known = self._evidence.lines(history.last(self.options.history_window), rows, user)
        return [
            self.candidate(row, own=user is not None and not place, evidence=lines)
            for place, (row, lines) in enumerate(zip(rows, known, strict=True))
        ]

    def text(self, text: str) -> list[int]:
        """Tokenise untrusted text, such as a thought that was not sampled."""
        return self._texts.text(text)
