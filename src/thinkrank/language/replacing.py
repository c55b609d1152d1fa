"""What takes the place of thoughts that were written, and is as long: a control of what they say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from thinkrank.language.engines.base import Completion

Control = Literal["empty", "other", "filler"]
"""No text at all; the text behind another prompt; as many tokens that say nothing."""

FILLER = " ..."
"""Text that says nothing."""


def replaced(texts: Sequence[Completion], control: Control, filler: Sequence[int]) -> list[Completion]:
    """Put what a control says in the place of each text.

    Args:
        texts: what was really written, one behind each prompt. The other one is that half the list away, so that
            neighbours, which may be of one person, are not exchanged.
        control: which.
        filler: tokens that are repeated, for the control of that name.

    Raises:
        ValueError: if there are fewer than two texts to exchange.
    """
    if control == "other" and len(texts) < 2:
        raise ValueError("exchanging thoughts needs at least two histories")
    found = []
    for index, text in enumerate(texts):
        match control:
            case "empty":
                ids: tuple[int, ...] = ()
            case "other":
                ids = texts[(index + len(texts) // 2) % len(texts)].ids_before_stop
            case "filler":
                count = text.num_before_stop
                ids = (tuple(filler) * (count // len(filler) + 1))[:count]
        certain = (0.0,) * len(ids)  # nothing was drawn
        own = replace(text, ids=ids, num_before_stop=len(ids), last_state=None)
        found.append(replace(own, logprobs=certain, own_logprobs=certain, entropies=certain))
    return found


class Replacing:
    """Put what a control says in the place of texts, batch after batch.

    A model with it spends what thinking costs, and reads as many tokens, without the thought. The text told is what was
    written.

    Args:
        control: what takes the place.
        filler: see `replaced`.
    """

    def __init__(self, control: Control, filler: Sequence[int]) -> None:
        self.control, self.filler = control, tuple(filler)
        self._before: Completion | None = None
        """A text of an earlier batch, for one that comes alone."""

    def __call__(self, written: Sequence[Sequence[Completion]]) -> list[list[Completion]]:
        """Replace as many texts behind each prompt: the n-th one among the n-th ones.

        Raises:
            ValueError: if texts are to be exchanged, and the very first prompt comes alone.
        """
        more = [self._before] if len(written) == 1 and self._before is not None else []
        columns = [replaced([*column, *more], self.control, self.filler) for column in zip(*written, strict=True)]
        self._before = written[0][0] if written else self._before
        return [[column[row] for column in columns] for row in range(len(written))]
