"""An engine that writes as another one does, and hands back something else of that length: a control of thoughts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from thinkrank.language.engines.base import TRAINED, Completion, Engine
from thinkrank.language.options import GenerationOptions
from thinkrank.language.prefix_tree import PrefixTree

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


class ReplacingEngine:
    """Write with an engine, and give what a control puts in the place of what was written.

    A model with this engine spends what thinking costs, and reads as many tokens, without the thought. The text told is
    what was written.

    Args:
        engine: that writes.
        control: what takes the place.
        filler: see `replaced`.
    """

    def __init__(self, engine: Engine, control: Control, filler: Sequence[int]) -> None:
        self.engine, self.control, self.filler = engine, control, tuple(filler)
        self._before: Completion | None = None
        """A text of an earlier call, for a prompt that comes alone."""

    def sample(
        self,
        prompts: PrefixTree,
        options: GenerationOptions,
        *,
        writer: str = TRAINED,
        num_samples: int = 1,
        stop: str | None = None,
        suffix: Sequence[int] = (),
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Write, and replace: the n-th text behind each prompt among the n-th ones; see `Engine`.

        Raises:
            ValueError: if texts are to be exchanged, and the very first prompt comes alone.
        """
        written = self.engine.sample(
            prompts, options, writer=writer, num_samples=num_samples, stop=stop, suffix=suffix, seeds=seeds
        )
        more = [self._before] if len(written) == 1 and self._before is not None else []
        columns = [
            replaced([*(many[n] for many in written), *more], self.control, self.filler) for n in range(num_samples)
        ]
        self._before = written[0][0] if written else self._before
        return [[column[row] for column in columns] for row in range(len(written))]

    def publish(self, writer: str, adapter: Mapping[str, Tensor]) -> None:
        """Pass on to the engine that writes."""
        self.engine.publish(writer, adapter)
