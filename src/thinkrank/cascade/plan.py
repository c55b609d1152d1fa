"""What an answer shall do, and what it leaves out, in a stated order, where a budget does not reach.

1. fewer samples; 2. no thinking of the re-ranker; 3. no reasons of the ranker; 4. fewer candidates for the ranker;
5. no re-ranker; 6. no ranker; 7. no thought of the retriever.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from thinkrank.cascade.options import Budget, StageCost

_LATEST = 0.2
"""Weight of the newest measurement in what a stage is known to take."""
_LEAST_RANKED = 10
"""Candidates below which the ranker is left out instead."""


@dataclass(frozen=True)
class Plan:
    """Say what an answer does.

    Attributes:
        stages: that are asked, in their order; the retriever always is.
        thinks: those of them that think.
        samples: thoughts of each that does.
        ranked: candidates that the ranker is given.
    """

    stages: tuple[str, ...]
    thinks: frozenset[str]
    samples: int
    ranked: int

    def without_thought(self, stage: str) -> "Plan":
        """Let a stage answer without thinking."""
        return replace(self, thinks=self.thinks - {stage})

    def without(self, stage: str) -> "Plan":
        """Leave a stage out."""
        return replace(self.without_thought(stage), stages=tuple(name for name in self.stages if name != stage))

    def shorter(self, to_come: tuple[str, ...]) -> Iterator["Plan"]:
        """Yield plans that do less and less, in the stated order.

        Args:
            to_come: stages that have not answered yet.
        """
        plan = self
        while plan.samples > 1 and plan.thinks & {*to_come}:
            plan = replace(plan, samples=plan.samples - 1)
            yield plan
        for stage in ("rerank", "rank"):
            if stage in plan.thinks and stage in to_come:
                plan = plan.without_thought(stage)
                yield plan
        while "rank" in plan.stages and "rank" in to_come and plan.ranked // 2 >= _LEAST_RANKED:
            plan = replace(plan, ranked=plan.ranked // 2)
            yield plan
        for stage in ("rerank", "rank"):
            if stage in plan.stages and stage in to_come:
                plan = plan.without(stage)
                yield plan
        if "retrieve" in plan.thinks and "retrieve" in to_come:
            yield plan.without_thought("retrieve")

    def within(self, left: Budget, costs: "Costs", to_come: tuple[str, ...]) -> "Plan":
        """Return the first plan that is expected to lie within a budget, or the shortest one there is.

        Args:
            left: what the stages to come may take.
            costs: what they are known to take.
            to_come: stages that have not answered yet.
        """
        plan = self
        for plan in (self, *self.shorter(to_come)):
            milliseconds, tokens = costs.of(plan, to_come)
            if milliseconds <= _most(left.milliseconds) and tokens <= _most(left.tokens):
                break
        return plan

    def left_out(self, done: "Plan") -> tuple[str, ...]:
        """Tell in words, in the stated order, what another plan does not do of this one."""
        thoughtless = {*self.thinks} - {*done.thinks}
        said = {
            f"{done.samples} of {self.samples} samples": bool(done.thinks) and done.samples < self.samples,
            "re-ranker without thinking": "rerank" in thoughtless & {*done.stages},
            "ranker without reasons": "rank" in thoughtless & {*done.stages},
            f"ranker reads {done.ranked} of {self.ranked} candidates": "rank" in done.stages
            and done.ranked < self.ranked,
            "no re-ranker": "rerank" in self.stages and "rerank" not in done.stages,
            "no ranker": "rank" in self.stages and "rank" not in done.stages,
            "retriever without a thought": "retrieve" in thoughtless,
        }
        return tuple(words for words, is_so in said.items() if is_so)


class Costs:
    """Know what stages take, from what was kept and what is measured while answering.

    Args:
        known: by stage.
    """

    def __init__(self, known: Mapping[str, StageCost] | None = None) -> None:
        self.known: dict[str, StageCost] = dict(known or {})

    def measured(self, stage: str, units: int, seconds: float, tokens: int, *, thoughts: int) -> None:
        """Take in what an answer of a stage took.

        Args:
            stage: its name.
            units: requests, or candidates where the stage is a ranker.
            seconds: wall time of all.
            tokens: written for all.
            thoughts: samples of each unit; 0 if it did not think.
        """
        if not units:
            return
        known, each = self.known.get(stage, StageCost()), 1000 * seconds / units / max(thoughts, 1)
        if thoughts:
            new = {
                "thinking_milliseconds": _mean(known.thinking_milliseconds, each),
                "tokens": _mean(known.tokens, tokens / units / thoughts),
            }
        else:
            new = {"milliseconds": _mean(known.milliseconds, each)}
        self.known[stage] = known.model_copy(update=new)

    def of(self, plan: Plan, stages: tuple[str, ...]) -> tuple[float, float]:
        """Expect milliseconds and tokens per request of some stages of a plan; what was never measured counts as 0."""
        milliseconds = tokens = 0.0
        for stage in stages:
            if stage not in plan.stages:
                continue
            known, units = self.known.get(stage, StageCost()), plan.ranked if stage == "rank" else 1
            each = known.milliseconds or 0.0
            if stage in plan.thinks:
                each = plan.samples * (known.thinking_milliseconds or each)
                tokens += units * plan.samples * (known.tokens or 0.0)
            milliseconds += units * each
        return milliseconds, tokens


def _mean(before: float | None, new: float) -> float:
    return new if before is None else (1 - _LATEST) * before + _LATEST * new


def _most(limit: float | None) -> float:
    return float("inf") if limit is None else limit
