"""Questions to a teacher, its answers, and what is kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from thinkrank.data import History


@dataclass(frozen=True)
class Pair:
    """Pose one question: does this item come next for this history?

    Attributes:
        position: of what the user really chose, among the events of the data set; it tells samples apart.
        history: what the user did before the sample's target.
        item: catalogue row of the candidate.
        label: whether the user chose it. A teacher must not look at it; it is compared with what the teacher answered.
    """

    position: int
    history: History
    item: int
    label: bool


@dataclass(frozen=True)
class Verdict:
    """Hold a teacher's answer.

    Attributes:
        reasoning: what it wrote, as one text.
        likely: whether it takes the item for the user's next one.
    """

    reasoning: str
    likely: bool


@runtime_checkable
class Teacher(Protocol):
    """Someone who reasons about pairs. What it answers depends on the question alone, so that runs can be resumed."""

    @property
    def name(self) -> str:
        """Return what to call it in its traces, with every setting that changes its answers."""
        ...

    def answer(self, pairs: Sequence[Pair], reflections: Sequence[Verdict | None]) -> list[Verdict | None]:
        """Reason about each pair.

        Args:
            pairs: the questions; their labels are not for the teacher.
            reflections: per pair the teacher's earlier verdict that turned out wrong, None at the first try.

        Returns:
            per pair a verdict, None where there is no answer or it can't be understood.

        Raises:
            ThinkrankError: if the teacher can't work at all, with the way out.
        """
        ...


@dataclass(frozen=True)
class Trace:
    """Hold a reasoning that came to the right verdict.

    Attributes:
        position: of what the user really chose, among the events of the data set; it tells samples apart.
        item: catalogue row of the candidate.
        label: whether the user chose it, which is also the verdict.
        reasoning: what to imitate.
        tries: how many answers it took, 1 without reflection.
        teacher: its name.
    """

    position: int
    item: int
    label: bool
    reasoning: str
    tries: int
    teacher: str
