"""The arms of a probe: ways of thinking, and for each the controls that could refute it.

A further way is one entry with its controls behind it; nothing else has to know of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        control_of: the way of thinking that this arm is a control of. The first control of a way is the one that the
            way must beat.
        as_long: what a control has as much of as its way: the processor's time of training steps, or steps where one
            costs the same.
        late: whether it takes histories that are read late.
    """

    name: str
    about: str
    phase: Literal["warm start", "contrastive", "recpo"] = "contrastive"
    over: Mapping[str, Any] = field(default_factory=dict)
    asked: tuple[Asked, ...] = ("no thought",)
    control_of: str = ""
    as_long: Literal["cpu", "steps"] = "cpu"
    late: bool = False

    @property
    def table(self) -> str:
        """Return the table of settings that says how it trains."""
        return "recpo" if self.phase == "recpo" else "training"

    @property
    def is_way(self) -> bool:
        """Tell whether it is a way of thinking, and not a control or the start."""
        return not self.control_of and self.name != START


_LATENT = {"training": {"thought_share": 0.0}, "recpo": {"steps": 0}}
"""Of arms that write no words."""

ARMS = (
    Arm(START, "warm start, no thought", "warm start", asked=("no thought", "thought")),
    Arm("words", "thoughts in words", "recpo", asked=("thought", "no thought", "other", "filler")),
    Arm(
        "words-without",
        "as long trained without thoughts",
        over={"training": {"thought_share": 0.0}},
        control_of="words",
    ),
    Arm(
        "latent",
        "2 silent thinking steps",
        over=_LATENT | {"model": {"latent": {"steps": 2, "feedback": "state", "alone_steps": 10}}},
        late=True,
    ),
    Arm("latent-without", "as long trained without silent steps", over=_LATENT, control_of="latent", late=True),
    Arm(
        "latent-frozen",
        "2 silent steps that learn nothing",
        over=_LATENT | {"model": {"latent": {"steps": 2, "feedback": "none", "trained": False}}},
        control_of="latent",
        as_long="steps",
        late=True,
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


def chosen_arms(ways: Sequence[str], reading: str = "late") -> tuple[Arm, ...]:
    """Return the start, the ways of these names and their controls; all where none is named.

    Where no words are written, the start learns none.

    Args:
        ways: names.
        reading: how histories are read.

    Raises:
        ThinkrankError: for a name that is no way, or none of such a reading.
    """
    possible = [arm for arm in ARMS if reading == "late" or not arm.late]
    known = [arm.name for arm in possible if arm.is_way]
    unknown = [name for name in ways if name not in known]
    if unknown:
        raise ThinkrankError(
            f"setting probe.ways: there is no way {unknown[0]!r} with reading = {reading}; there are {', '.join(known)}"
        )
    wanted = {START, *(ways or known)}
    chosen = [arm for arm in possible if {arm.name, arm.control_of} & wanted]
    if not any("thought" in arm.asked for arm in chosen if arm.is_way):
        chosen[0] = replace(chosen[0], over={"training": {"thought_share": 0.0}}, asked=("no thought",))
    return tuple(chosen)


def control_of(way: Arm, arms: Sequence[Arm]) -> Arm:
    """Return the control that a way must beat: the same compute without what it adds."""
    return controls_of(way, arms)[0]


def controls_of(way: Arm, arms: Sequence[Arm]) -> list[Arm]:
    """Return all controls of a way, the one that it must beat first."""
    return [arm for arm in arms if arm.control_of == way.name]


def shown(arm: Arm, asked: str) -> str:
    """Return what tables call an arm's answer."""
    return arm.about if asked == arm.asked[0] else f"{arm.about}: {MODES[asked]}"  # type: ignore[index]
