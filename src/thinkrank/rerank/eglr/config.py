"""What EGLR is made of. All defaults are reconstructed or ours: the paper's are not known."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from thinkrank.options import Options, heads_divide_the_width
from thinkrank.rerank.lists import ListEncoderOptions

GeneratorKind = Literal["gru", "transformer", "mlp", "prefix_sum"]
ReasoningMode = Literal["none", "entropy", "gain", "fixed", "prefix", "random"]
GATED: tuple[ReasoningMode, ...] = ("entropy", "gain")
"""Modes that think where something exceeds a threshold."""
TokenKind = Literal["soft_candidates", "last_state", "learned_pause", "mean_candidates", "argmax_item"]
EvaluatorKind = Literal["gru", "transformer", "five_channel"]
RewardKind = Literal["mean", "sum", "discounted"]
REWARD_KINDS: tuple[RewardKind, ...] = ("mean", "sum", "discounted")

Share = Annotated[float, Field(ge=0, le=1)]
"""Between 0 and 1."""
Dropout = Annotated[float, Field(ge=0, lt=1)]


class GeneratorOptions(Options):
    """Describe the model that writes lists."""

    kind: GeneratorKind = Field(
        "gru", description="make of the generator: GRU pointer, causal Transformer, MLP on a GRU's state, or prefix sum"
    )
    width: int = Field(64, ge=2, description="width of tokens and states")
    encoder_width: int = Field(128, ge=1, description="hidden width of the network that every candidate goes through")
    set_blocks: int = Field(1, ge=0, description="blocks of attention among the candidates")
    decoder_blocks: int = Field(2, ge=1, description="layers of the Transformer")
    heads: int = Field(4, ge=1, description="heads of every attention; twice their number must divide the width")
    pointer_width: int = Field(32, ge=1, description="width in which states and candidates are compared")
    dropout: Dropout = Field(0.1, description="dropout on the candidates, in the warm start only")

    _heads_divide_the_width = heads_divide_the_width(2)


class ReasoningOptions(Options):
    """Say when and how to think before an item is chosen, and how it is chosen.

    From the paper: thinking where the entropy of the choice exceeds a threshold, at most `max_steps` times per item, in
    tokens mixed from the candidates, with a higher temperature for thinking than for choosing. All values, and the
    other modes and tokens, are reconstructed: they are what it has to be compared with.
    """

    mode: ReasoningMode = Field(
        "entropy",
        description="when to think: none; entropy: where the choice is uncertain; gain: where a small predictor, "
        "trained in the warm start, expects the choice to become better; fixed: max_steps before every item; "
        "prefix: max_steps before the first item; random: max_steps before a share of the items",
    )
    max_steps: int = Field(1, ge=0, description="most thoughts per item; in mode prefix, per list")
    threshold: float | None = Field(
        None,
        ge=0,
        description="entropy, or predicted gain in nats, above which modes entropy and gain think; set from "
        "trigger_rate by reinforcement or expert iteration if not given",
    )
    trigger_rate: Share = Field(0.4, description="share of the places that are to think once the threshold is set")
    normalised: bool = Field(
        False, description="compare the entropy divided by the log of what is left, between 0 and 1"
    )
    random_rate: Share = Field(0.4, description="share of the places that think in mode random")
    token: TokenKind = Field("soft_candidates", description="what a thought is made of")
    detach: bool = Field(False, description="let no gradient flow through thoughts")
    predicts_gain: bool = Field(
        False,
        description="have a predictor of how much a thought lowers the loss of the next choice, which the warm start "
        "trains; mode gain needs it",
    )
    step_codes: bool = Field(False, description="add a learned vector per step to thoughts; they begin at zero")
    gate_temperature: float = Field(1.0, gt=0, description="temperature of the distribution whose entropy is compared")
    think_temperature: float = Field(1.5, gt=0, description="temperature of the mixture that a thought is")
    choose_temperature: float = Field(
        0.8, gt=0, description="temperature of the distribution that items are drawn from"
    )

    @property
    def lacks_threshold(self) -> bool:
        """Tell whether it thinks above a threshold that is not set."""
        return self.mode in GATED and self.max_steps > 0 and self.threshold is None

    @model_validator(mode="after")
    def _can_predict(self) -> "ReasoningOptions":
        if self.mode == "gain" and not self.predicts_gain:
            raise ValueError("mode gain thinks by a predictor: set predicts_gain to true")
        return self


class EvaluatorOptions(Options):
    """Describe the model that predicts what a user does with a list."""

    kind: EvaluatorKind = Field(
        "gru", description="make of the evaluator: forward GRU, bidirectional Transformer, or the five channels of CMR"
    )
    lists: ListEncoderOptions = Field(
        ListEncoderOptions(positions=False),
        description="what the evaluator knows of items; with positions it would take displayed places for judged ones",
    )
    width: int = Field(64, ge=2, description="width of the sequence model")
    blocks: int = Field(2, ge=1, description="layers of the Transformer")
    heads: int = Field(4, ge=1, description="heads of every attention; twice their number must divide the width")
    dropout: Dropout = Field(0.1, description="dropout of the Transformer and the last network")
    length: int = Field(10, ge=1, description="places that the five channels read; the others read any number")

    _heads_divide_the_width = heads_divide_the_width(2)


class EGLRConfig(Options):
    """Describe one EGLR model."""

    lists: ListEncoderOptions = ListEncoderOptions()
    generator: GeneratorOptions = GeneratorOptions()
    reasoning: ReasoningOptions = ReasoningOptions()
    evaluator: EvaluatorOptions = EvaluatorOptions()

    @model_validator(mode="after")
    def _same_history(self) -> "EGLRConfig":
        if self.lists.max_history != self.evaluator.lists.max_history:
            raise ValueError(
                f"lists.max_history is {self.lists.max_history} and evaluator.lists.max_history "
                f"{self.evaluator.lists.max_history}: lists are read once for both, so give both the same"
            )
        return self
