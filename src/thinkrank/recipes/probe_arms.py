"""The arms of a probe: ways of thinking, and for each the controls that could refute it.

A further way is one entry with its controls behind it; nothing else has to know of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from thinkrank.errors import ThinkrankError

Asked = Literal["no thought", "thought", "several", "other", "filler"]
"""How an arm is asked: without a thought, after its own, by the mean over some of its own, after the one about another
history, after as many tokens that say nothing."""

SEVERAL = 4
"""Thoughts over which a mean is taken."""

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
        trained_as: the arm whose models this one asks in its own way, without a training; empty where it has its own.
        as_long: what a control has as much of as its way: the processor's time of training steps, or steps where one
            costs the same.
        late: whether it takes histories that are read late.
        is_further: whether a way is tried only when it is named.
    """

    name: str
    about: str
    phase: Literal["warm start", "contrastive", "recpo"] = "contrastive"
    over: Mapping[str, Any] = field(default_factory=dict)
    asked: tuple[Asked, ...] = ("no thought",)
    control_of: str = ""
    trained_as: str = ""
    as_long: Literal["cpu", "steps"] = "cpu"
    late: bool = False
    is_further: bool = False

    @property
    def folder(self) -> str:
        """Return the name of the folder of its model, before the number of the training."""
        return self.trained_as or self.name

    @property
    def table(self) -> str:
        """Return the table of settings that says how it trains."""
        return "recpo" if self.phase == "recpo" else "training"

    @property
    def is_counted(self) -> bool:
        """Tell whether its thoughts are counted by a tool, not written."""
        return bool(self.over.get("model", {}).get("thinker") == "crowd")

    @property
    def begins_with(self) -> str:
        """Return what its training begins with, for people."""
        silent = self.over.get("model", {}).get("latent", {}).get("steps", 0)
        return "the start with untrained positions" if silent else "the start"

    @property
    def is_way(self) -> bool:
        """Tell whether it is a way of thinking, and not a control or the start."""
        return not self.control_of and self.name != START


_PLAIN = {"training": {"thought_share": 0.0}}
_LATENT = _PLAIN | {"recpo": {"steps": 0}}
"""Of arms that write no words."""
_COUNTED = {"model": {"thinker": "crowd"}, "recpo": {"steps": 0}}
_READ = {"thought_share": 1.0, "thought_source": "crowd"}
"""Of arms whose thoughts a tool counts, and that learn to read them."""
_LOG_MEAN = {
    "item_weight": 0.0,
    "item_floor": 0.0,
    "fused_weight": 0.0,
    "format_weight": 0.0,
    "marginal_weight": 1.0,
    "item_marginal": 1.0,
    "advantages": "plain",
}
"""Of arms that are rewarded by the log of the mean probability over a group of thoughts."""
_WITHOUT = "as long trained without thoughts"

ARMS = (
    Arm(START, "warm start, no thought", "warm start", asked=("no thought", "thought")),
    Arm("words", "thoughts in words", "recpo", asked=("thought", "no thought", "other", "filler")),
    Arm("words-without", _WITHOUT, over=_PLAIN, control_of="words"),
    Arm(
        "dense",
        "thoughts in words rewarded by log-probability",
        "recpo",
        over={"recpo": _LOG_MEAN},
        asked=("thought", "no thought", "other", "filler"),
        is_further=True,
    ),
    Arm("dense-without", f"{_WITHOUT} (log-probability)", over=_PLAIN, control_of="dense"),
    Arm(
        "several",
        f"means over {SEVERAL} thoughts in words",
        "recpo",
        asked=("several", "thought", "filler"),
        trained_as="words",
        is_further=True,
    ),
    Arm("several-without", f"{_WITHOUT} (means)", over=_PLAIN, control_of="several", trained_as="words-without"),
    Arm(
        "evidence",
        "thoughts that a tool counts",
        over=_COUNTED | {"training": _READ},
        asked=("thought", "no thought", "other", "filler"),
        is_further=True,
    ),
    Arm("evidence-without", f"{_WITHOUT} (counted)", over=_LATENT, control_of="evidence"),
    Arm(
        "distilled",
        "answers at once taught by counted thoughts",
        over=_COUNTED | {"training": _READ | {"distil_weight": 1.0}},
        asked=("no thought", "thought"),
        late=True,
        is_further=True,
    ),
    Arm("distilled-without", f"{_WITHOUT} (taught)", over=_LATENT, control_of="distilled", late=True),
    Arm(
        "distilled-other",
        "answers at once taught by counted thoughts about other people",
        over=_COUNTED | {"training": _READ | {"distil_weight": 1.0, "thought_source": "crowd_of_others"}},
        control_of="distilled",
        as_long="steps",
        late=True,
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

COUNTING = (Arm("popularity", "popularity without a model"), Arm("item-knn", "item-kNN without a model"))
"""What is asked beside all arms and only counts, as a mark of what the models have learnt."""

ENOUGH = 0.9
"""Of the updates that a start is to make: with fewer the minutes have cut it short."""

MODES: Mapping[str, str] = {
    "no thought": "the thought left out",
    "thought": "own thought",
    "several": f"mean over {SEVERAL} thoughts",
    "other": "another person's thought",
    "filler": "as many empty words",
}
"""What an answer is called that is not the one its arm is judged by."""


def chosen_arms(ways: Sequence[str], reading: str = "late", *, is_started: bool = False) -> tuple[Arm, ...]:
    """Return the start, the ways of these names and their controls; those that are no further ones where none is named.

    Where no words are written, the start learns none; nor does one that is trained already.

    Args:
        ways: names.
        reading: how histories are read.
        is_started: whether the start is trained already.

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
    wanted = {START, *(ways or (arm.name for arm in possible if arm.is_way and not arm.is_further))}
    chosen = [arm for arm in possible if {arm.name, arm.control_of} & wanted]
    if is_started or not any(arm.phase == "recpo" for arm in chosen):
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
    return arm.about if asked == arm.asked[0] else f"{arm.about}: {MODES[asked]}"
