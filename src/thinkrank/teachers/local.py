"""A teacher that is a language model on this machine.

What all questions begin with is read once, and a history once for all its candidates. Rules and questions are ours;
titles and earlier reasonings are tokenised as plain text, so none can open or close a turn.
"""

import hashlib
import re
from collections.abc import Sequence

from pydantic import Field

from thinkrank.data import Catalogue, History
from thinkrank.language import (
    Backbone,
    ChatFrame,
    Engine,
    GenerationOptions,
    PrefixTree,
    TransformersEngine,
    encode_text,
)
from thinkrank.options import Options
from thinkrank.teachers.attributes import plain
from thinkrank.teachers.pairs import Pair, Verdict
from thinkrank.teachers.questions import REFLECTION, RULES, ItemTexts

FORM = 'Write one to three short sentences of reasoning, then "Verdict: yes" or "Verdict: no".'
"""The form of an answer, as the model reads it."""

_VERDICT = re.compile(r"(.*?)[\s*_#-]*\bverdict\b\W*(yes|no)\b\W*", re.IGNORECASE | re.DOTALL)


class ModelOptions(Options):
    """Ask a language model on this machine: budgets and decoding."""

    item_tokens: int = Field(48, ge=1, description="token budget of one item's line")
    generation: GenerationOptions = GenerationOptions(max_new_tokens=128)


class ModelTeacher:
    """Teacher that is a language model of `thinkrank.language`.

    Args:
        backbone: the model, as it is.
        catalogue: the items.
        options: budgets and decoding.
        engine: another engine for the same model; None for the transformers engine.
    """

    def __init__(
        self,
        backbone: Backbone,
        catalogue: Catalogue,
        options: ModelOptions | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.options = options or ModelOptions()
        self._backbone = backbone
        self._texts = ItemTexts(catalogue)
        self._engine = engine or TransformersEngine(backbone)
        self._frame = ChatFrame.of(backbone.tokenizer)
        self._rules = self._ids(f"{RULES} {FORM}\n\nHistory:\n")

    @property
    def name(self) -> str:
        """Return the model's name, with the options that are not the default."""
        changed = self.options.model_dump_json(exclude_defaults=True)
        return self._backbone.source if changed == "{}" else f"{self._backbone.source} {changed}"

    def answer(self, pairs: Sequence[Pair], reflections: Sequence[Verdict | None]) -> list[Verdict | None]:
        """Ask about each pair; see `Teacher`. None where the model wrote no verdict in the form it was told."""
        by_history: dict[bytes, list[int]] = {}
        for index, pair in enumerate(pairs):
            by_history.setdefault(pair.history.items.tobytes(), []).append(index)
        forest = PrefixTree.groups(
            (self._prefix(pairs[of[0]].history), [self._suffix(pairs[i].item, reflections[i]) for i in of])
            for of in by_history.values()
        )
        order = [i for of in by_history.values() for i in of]
        seeds = [_seed(pairs[i]) for i in order]
        written = self._engine.sample(forest.share(), self.options.generation, seeds=seeds)
        texts = {i: completion.text for i, (completion,) in zip(order, written, strict=True)}
        return [parse_verdict(texts[i]) for i in range(len(pairs))]

    def _prefix(self, history: History) -> list[int]:
        lines = [token for row in history.items.tolist() for token in self._line(row)]
        return [*self._frame.before, *self._rules, *lines]

    def _suffix(self, item: int, reflection: Verdict | None) -> list[int]:
        ids = [*self._ids("\nCandidate:\n"), *self._line(item)]
        if reflection is not None:
            verdict = "yes" if reflection.likely else "no"
            ids += self._ids(f"\nAn answer was: {reflection.reasoning} Verdict: {verdict}\n{REFLECTION}\n")
        return [*ids, *self._ids("\nReasoning and verdict:"), *self._frame.after]

    def _line(self, row: int) -> list[int]:
        return [*self._ids(self._texts.line(row))[: self.options.item_tokens], *self._ids("\n")]

    def _ids(self, text: str) -> list[int]:
        return encode_text(self._backbone.tokenizer, text)


def parse_verdict(text: str) -> Verdict | None:
    """Find the verdict in what a model wrote: a reasoning, then "Verdict: yes" or "Verdict: no", then nothing.

    Returns:
        None if there is no reasoning, no verdict at the end, or more than one.
    """
    found = _VERDICT.fullmatch(text)
    reasoning = plain(found[1]) if found else ""
    if found is None or not reasoning or "verdict" in reasoning.lower():
        return None
    return Verdict(reasoning, found[2].lower() == "yes")


def _seed(pair: Pair) -> int:
    """Derive a question's own seed, so that its draws do not depend on what else is asked."""
    digest = hashlib.blake2b(f"{pair.position}/{pair.item}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
