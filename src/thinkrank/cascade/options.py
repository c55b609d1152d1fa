"""What a cascade is told: how many candidates pass on, how scores are joined, when to think, what it may cost."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from thinkrank.options import Options

STAGES = ("retrieve", "rank", "rerank")
"""What the stages are called, in their order, and what each is asked by; also the folders they are saved in."""

Think = Literal["always", "never", "auto"]
"""When stages that can think do so: for every request, for none, or where the retriever's answer is uncertain."""


class Budget(Options):
    """Bound what the answer to one request may cost; what is left out to keep it is said in the answer."""

    milliseconds: PositiveFloat | None = Field(
        None, description="wall time per request; requests that are answered together share their time evenly"
    )
    tokens: NonNegativeFloat | None = Field(None, description="tokens that language models may write per request")

    def left(self, milliseconds: float, tokens: float) -> "Budget":
        """Return what is left after some was spent; below 0 where too much was."""
        return Budget.model_construct(
            milliseconds=None if self.milliseconds is None else self.milliseconds - milliseconds,
            tokens=None if self.tokens is None else self.tokens - tokens,
        )


class StageCost(Options):
    """Tell what one stage takes, by which a budget is planned.

    A retriever and a re-ranker are counted per request, a ranker per candidate.
    """

    milliseconds: NonNegativeFloat | None = Field(None, description="wall time without a thought")
    thinking_milliseconds: NonNegativeFloat | None = Field(None, description="wall time with one thought")
    tokens: NonNegativeFloat | None = Field(None, description="tokens of one thought")


class Blend(Options):
    """Say how a stage's scores are joined with those of the stages before it, on the list that it was given."""

    before: float = Field(0.0, description="weight of the score with which an item comes to the stage")
    own: float = Field(1.0, description="weight of the stage's score; at 0 the stage is not asked")


class StageGain(Options):
    """Tell what a stage added to the order it was given, on validation lists that it had not learnt from."""

    before: float = Field(description="NDCG@10 of the order given; what was lost on the way counts 0")
    after: float = Field(description="NDCG@10 with the stage, whether it is kept or not")
    error: float = Field(description="standard error of their difference, users drawn independently")
    likelihood: float = Field(description="what the stage adds to the log-likelihood of a choice, in nats")
    likelihood_error: float = Field(description="standard error of that, users drawn independently")
    ceiling: float = Field(description="share of the samples whose choice was on the list at all")
    samples: int = Field(description="samples that this was measured on")


class CascadeConfig(Options):
    """Hold the options of `Cascade`."""

    candidates: PositiveInt = Field(100, description="items that the retriever hands to the ranker")
    slate: PositiveInt = Field(20, description="best ranked items from which the re-ranker writes its list")
    blends: dict[Literal["rank", "rerank"], Blend] = Field(
        default_factory=dict,
        description="how the scores of rank and rerank are joined with those before; a stage without an entry decides "
        "alone",
    )
    think: Think = Field("always", description="when stages that can think do so, unless a request says otherwise")
    threshold: NonNegativeFloat | None = Field(
        None,
        description="entropy of the retriever's answer, in nats, from which think auto thinks; set by calibration",
    )
    costs: dict[Literal["retrieve", "rank", "rerank"], StageCost] = Field(
        default_factory=dict, description="what each stage took when it was measured"
    )
    gains: dict[Literal["rank", "rerank"], StageGain] = Field(
        default_factory=dict, description="what each later stage added when its weight was chosen"
    )
    batch_size: PositiveInt = Field(64, description="requests answered together")
    classes: dict[Literal["retrieve", "rank", "rerank"], str] = Field(
        default_factory=dict,
        description="classes of stages that are not the package's own, as package.module:Name; filled in when saved",
    )

    def blend(self, stage: str) -> Blend:
        """Return how a stage's scores are joined with those before; one without an entry decides alone."""
        return {str(name): blend for name, blend in self.blends.items()}.get(stage, Blend())
