"""What EGLR is made of and how it is trained. All defaults are reconstructed or ours: the paper's are not known."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from thinkrank.options import Options
from thinkrank.rerank.lists import ListEncoderOptions
from thinkrank.training.options import TrainerOptions

GeneratorKind = Literal["gru", "transformer", "mlp", "prefix_sum"]
ReasoningMode = Literal["none", "entropy", "fixed", "prefix", "random"]
TokenKind = Literal["soft_candidates", "last_state", "learned_pause", "mean_candidates", "argmax_item"]
EvaluatorKind = Literal["gru", "transformer", "five_channel"]
RewardKind = Literal["mean", "sum", "discounted"]
REWARD_KINDS: tuple[RewardKind, ...] = ("mean", "sum", "discounted")

Share = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class GeneratorOptions(Options):
    """The model that writes lists."""

    kind: GeneratorKind = Field("gru", description="GRU pointer, causal Transformer, MLP on a GRU's state, prefix sum")
    width: int = Field(64, ge=2, description="of tokens and states")
    encoder_width: int = Field(128, ge=1, description="inside the network that every candidate goes through")
    set_blocks: int = Field(1, ge=0, description="blocks of attention among the candidates")
    decoder_blocks: int = Field(2, ge=1, description="of the Transformer")
    heads: int = Field(4, ge=1, description="of every attention; must divide the width")
    pointer_width: int = Field(32, ge=1, description="in which states and candidates are compared")
    dropout: Dropout = Field(0.1, description="on the candidates, in the warm start only")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "GeneratorOptions":
        if self.width % (2 * self.heads):
            raise ValueError(
                f"the width must be a multiple of twice the heads, and {self.width} is none of {self.heads}"
            )
        return self


class ReasoningOptions(Options):
    """When and how to think before an item is chosen, and how it is chosen.

    From the paper: thinking where the entropy of the choice exceeds a threshold, at most `max_steps` times per item, in
    tokens mixed from the candidates, with a higher temperature for thinking than for choosing. All values, and the
    other modes and tokens, are reconstructed: they are what it has to be compared with.
    """

    mode: ReasoningMode = Field(
        "entropy",
        description="none; entropy: where the choice is uncertain; fixed: max_steps before every item; prefix: "
        "max_steps before the first item; random: max_steps before a share of the items",
    )
    max_steps: int = Field(1, ge=0, description="thoughts at most, per item; with prefix, per list")
    threshold: float | None = Field(
        None, ge=0, description="of mode entropy: think above it; none is set from trigger_rate before reinforcement"
    )
    trigger_rate: Share = Field(0.4, description="share of the places that the threshold is set for")
    normalised: bool = Field(False, description="compare entropy over the log of what is left, between 0 and 1")
    random_rate: Share = Field(0.4, description="of mode random: share of the places that think")
    token: TokenKind = Field("soft_candidates", description="what a thought is made of")
    detach: bool = Field(False, description="no gradient flows through thoughts")
    step_codes: bool = Field(False, description="add a learned vector per step to thoughts; they begin at zero")
    gate_temperature: float = Field(1.0, gt=0, description="of the distribution whose entropy is compared")
    think_temperature: float = Field(1.5, gt=0, description="of the mixture that a thought is")
    choose_temperature: float = Field(0.8, gt=0, description="of the distribution that items are drawn from")


class EvaluatorOptions(Options):
    """The model that predicts what a user does with a list."""

    kind: EvaluatorKind = Field(
        "gru", description="forward GRU, bidirectional Transformer, or the five channels of CMR"
    )
    lists: ListEncoderOptions = Field(
        ListEncoderOptions(positions=False),
        description="what it knows of items; with positions it would mistake the displayed place for the judged one",
    )
    width: int = Field(64, ge=2, description="of the sequence model")
    blocks: int = Field(2, ge=1, description="of the Transformer")
    heads: int = Field(4, ge=1, description="of every attention; must divide the width")
    dropout: Dropout = Field(0.1, description="of the Transformer and the last network")
    length: int = Field(10, ge=1, description="places that the five channels read; the others read any number")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "EvaluatorOptions":
        if self.width % (2 * self.heads):
            raise ValueError(
                f"the width must be a multiple of twice the heads, and {self.width} is none of {self.heads}"
            )
        return self


class EGLRConfig(Options):
    """One EGLR model."""

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


class ListTrainerOptions(TrainerOptions):
    """What every training on lists shares."""

    steps: int = Field(500, ge=0, description="updates, or batches of rollouts; 0 leaves the training out")
    batch_size: int = Field(64, ge=1, description="lists per step")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's, on everything")
    validate_every: int = Field(50, ge=1, description="steps between two validations")
    validation_lists: int = Field(2000, ge=1, description="newest lists of the validation part that are looked at")
    patience: int | None = Field(5, ge=1, description="stop after this many validations without a better one")
    checkpoint_every: int = Field(50, ge=1, description="steps between two checkpoints")
    signal: str | None = Field(None, description="feedback to learn and to be judged by; none is the data set's first")


class EvaluatorTrainerOptions(ListTrainerOptions):
    """Pre-training of the evaluator on displayed lists; the best weights are those of the lowest validation loss."""

    shuffled: Share = Field(
        0.0,
        description="share of the lists that are read in a random order, as if order changed no click: acquaints it "
        "with orders that were never displayed. Give it the displayed places as a feature then (lists.positions)",
    )
    slate_length: int = Field(10, ge=1, description="places on which the report compares logged and shuffled lists")


class WarmStartOptions(ListTrainerOptions):
    """Supervised training of the generator to put clicked items first. It does not think yet."""

    length: int = Field(10, ge=1, description="places that are trained; shorter where there are fewer candidates")
    prefix: Literal["own", "clicked_first"] = Field(
        "own",
        description="what precedes a place: lists drawn from the generator, so that it learns to mend its mistakes, "
        "or the clicked items before the displayed rest",
    )


class GrpoOptions(ListTrainerOptions):
    """Reinforcement of the generator by the evaluator's judgement."""

    steps: int = Field(300, ge=0, description="batches of rollouts; 0 leaves the training out")
    batch_size: int = Field(32, ge=1, description="requests per batch of rollouts")
    learning_rate: float = Field(1e-4, gt=0, description="AdamW's")
    length: int = Field(10, ge=1, description="places of a list; shorter where there are fewer candidates")
    group_size: int = Field(8, ge=2, description="lists drawn for each request")
    reward: RewardKind = Field(
        "mean",
        description="of the click probabilities; discounted: their sum, place k divided by log2(k + 1). Where every "
        "list has one click the mean says little about order",
    )
    advantage: Literal["list", "position"] = Field(
        "list", description="compare whole lists, or at each place what came from there on"
    )
    gamma: Share = Field(1.0, description="of advantage position: discount of what comes later")
    advantage_epsilon: float = Field(1e-6, ge=0, description="added to the standard deviation of a group")
    updates: int = Field(1, ge=1, description="per batch of rollouts; from the second on ratios differ from 1")
    clip_low: Share = Field(0.2, description="ratios may fall to 1 - clip_low")
    clip_high: float = Field(0.2, ge=0, description="ratios may rise to 1 + clip_high")
    kl_coefficient: float = Field(
        0.1,
        ge=0,
        description="of the k3 divergence from the generator at the start; too little lets it exploit the evaluator",
    )
    entropy_coefficient: float = Field(1e-3, ge=0, description="of the entropy of the choices")
    failed_check: Literal["refuse", "warn"] = Field(
        "refuse", description="when the evaluator does not prefer logged lists to shuffled ones"
    )
