"""Thoughts that are written while the batch before them is learnt from, by weights that are one update behind.

The engine gets a copy of the writing weights under a name of its own, and is asked in a thread: vLLM and SGLang then
write in their own processes while this one learns; the transformers engine shares the processor with the training. What
is written does not depend on who is faster.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from thinkrank.data.splits import Sample
from thinkrank.errors import ThinkrankError
from thinkrank.language import Completion
from thinkrank.language.adapters import adapter_state
from thinkrank.prompts.retrieval import UserPrompt
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.options import RecpoOptions
from thinkrank.retrieve.r2ec.rollouts import write_thoughts
from thinkrank.retrieve.r2ec.writing import WriterNames, writes_apart


@dataclass(frozen=True)
class Begun:
    """Hold a batch whose thoughts are being written.

    Attributes:
        drawn: its samples, each with its number in the order of draws.
        stop: the number to go on with.
        written: the thoughts, when they are there.
    """

    drawn: list[tuple[int, Sample]]
    stop: int
    written: "Future[list[list[Completion]]]"


class Ahead:
    """Write the thoughts of one batch beforehand.

    Args:
        model: whose engine writes.
        options: how to write.

    Attributes:
        weights: that the batch under way is written with; empty before the first.

    Raises:
        ThinkrankError: if what writes is not trained, or more than an adapter decides what is written.
    """

    def __init__(self, model: R2ec, options: RecpoOptions) -> None:
        if model.config.thinker not in ("trained", "apart"):
            raise ThinkrankError(
                f"nothing that is learnt writes with model.thinker = {model.config.thinker}: set recpo.behind = 0"
            )
        if model.backbone.items is not None:
            raise ThinkrankError(
                "where histories are read late, items that are trained decide what is written, too, and are handed to "
                "no engine: set recpo.behind = 0, or model.reading = text"
            )
        self.model, self.options = model, options
        self.weights: Mapping[str, Tensor] = {}
        self.begun: Begun | None = None
        self._names = WriterNames()
        self._thread = ThreadPoolExecutor(1, "thoughts")

    def begin(self, drawn: list[tuple[int, Sample]], stop: int, weights: Mapping[str, Tensor] | None = None) -> Begun:
        """Begin to write about samples, with the model's present weights or with given ones."""
        if weights is None:
            present = self.model.writer if writes_apart(self.model) else adapter_state(self.model.backbone)
            weights = {name: tensor.detach().clone() for name, tensor in present.items()}
        self.weights = weights
        name = self._names.of(self.model.engine, weights)
        asked = [self.model.asking.user(sample.history) for _, sample in drawn]
        self.begun = Begun(drawn, stop, self._thread.submit(self._write, asked, [draw for draw, _ in drawn], name))
        return self.begun

    def _write(self, asked: Sequence[UserPrompt], seeds: Sequence[int], name: str) -> list[list[Completion]]:
        return write_thoughts(self.model, asked, seeds, self.options, name) if asked else []

    def close(self) -> None:
        """Wait for what is under way, and drop it."""
        self._thread.shutdown(cancel_futures=True)
        self.begun = None
