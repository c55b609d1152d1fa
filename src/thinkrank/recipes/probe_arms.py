"""The arms of a probe: ways of thinking, and for each the controls that could refute it.

A further way is one entry with its controls behind it; nothing else has to know of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from thinkrank.errors import ThinkrankError

Asked = Literal["no thought", "thought", "other", "filler"]
"""How an arm is asked: without a thought, after its own, after the one about another history, after as many tokens that
say nothing."""

START = "start"
"""The arm that all others begin with."""


@dataclass(frozen=True)
class Arm:
    """Describe one model that a probe trains and how it is asked.

    Attributes:
        name: in files, short.
        about: what people read in tables.
        phase: how it is trained from the start; the start itself by "warm start".
        over: settings laid over the probe's.
        asked: the first is what the arm is judged by, the others show what that rests on.
        control_of: the way of thinking that this arm is a control of; it trains as many seconds. The first control of a
            way is the one that the way must beat.
    """

    name: str
    about: str
    phase: Literal["warm start", "contrastive", "recpo"] = "contrastive"
    over: Mapping[str, Any] = field(default_factory=dict)
    asked: tuple[Asked, ...] = ("no thought",)
    control_of: str = ""

    @property
    def table(self) -> str:
        """Return the table of settings that says how it trains."""
        return "recpo" if self.phase == "recpo" else "training"

    @property
    def is_way(self) -> bool:
        """Tell whether it is a way of thinking, and not a control or the start."""
        return not self.control_of and self.name != START


ARMS = (
    Arm(START, "warm start, no thought", "warm start", asked=("no thought", "thought")),
    Arm("words", "thoughts in words", "recpo", asked=("thought", "no thought", "other", "filler")),
    Arm(
        "words-without",
        "as long trained without thoughts",
        over={"training": {"thought_share": 0.0}},
        control_of="words",
    ),
)
"""Everything that a probe tries: name, settings, control of what."""

MODES: Mapping[Asked, str] = {
    "no thought": "the thought left out",
    "thought": "own thought",
    "other": "another person's thought",
    "filler": "as many empty words",
}
"""What an answer is called that is not the one its arm is judged by."""


def chosen_arms(ways: Sequence[str]) -> tuple[Arm, ...]:
    """Return the start, the ways of these names and their controls; all where none is named.

    Raises:
        ThinkrankError: for a name that is no way.
    """
    known = [arm.name for arm in ARMS if arm.is_way]
    unknown = [name for name in ways if name not in known]
    if unknown:
        raise ThinkrankError(f"setting probe.ways: there is no way {unknown[0]!r}; there are {', '.join(known)}")
    wanted = {START, *(ways or known)}
    return tuple(arm for arm in ARMS if {arm.name, arm.control_of} & wanted)


def control_of(way: Arm, arms: Sequence[Arm]) -> Arm:
    """Return the control that a way must beat: the same compute without what it adds."""
    return next(arm for arm in arms if arm.control_of == way.name)


def shown(arm: Arm, asked: str) -> str:
    """Return what tables call an arm's answer."""
    return arm.about if asked == arm.asked[0] else f"{arm.about}: {MODES[asked]}"  # type: ignore[index]
