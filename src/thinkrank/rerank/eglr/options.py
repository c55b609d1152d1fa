"""How EGLR is trained. All defaults are reconstructed or ours: the paper's are not known."""

from typing import ClassVar, Literal

from pydantic import Field

from thinkrank.rerank.eglr.config import RewardKind, Share
from thinkrank.training.options import TrainerOptions


class ListTrainerOptions(TrainerOptions):
    """Hold what every training on lists shares."""

    steps: int = Field(500, ge=0, description="number of updates, or of batches of rollouts; 0 leaves the training out")
    batch_size: int = Field(64, ge=1, description="lists that one step learns from")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of AdamW, on all weights")
    validate_every: int = Field(50, ge=1, description="number of steps between two validations")
    validation_lists: int = Field(2000, ge=1, description="how many of the newest validation lists are looked at")
    patience: int | None = Field(5, ge=1, description="stop after this many validations without a better one")
    checkpoint_every: int = Field(50, ge=1, description="number of steps between two checkpoints")
    signal: str | None = Field(
        None, description="feedback to learn and to be judged by; the first of the data set if not given"
    )


class EvaluatorTrainerOptions(ListTrainerOptions):
    """Pre-train the evaluator on displayed lists; the best weights are those of the lowest validation loss."""

    shuffled: Share = Field(
        0.0,
        description="share of the lists that are read in a random order, as if order changed no click: acquaints it "
        "with orders that were never displayed. Give it the displayed places as a feature then (lists.positions)",
    )
    slate_length: int = Field(10, ge=1, description="places on which the report compares logged and shuffled lists")


class WarmStartOptions(ListTrainerOptions):
    """Teach the generator what comes next, by logged clicks or by the evaluator."""

    length: int = Field(
        10, ge=1, description="places of a list that are trained, fewer where there are fewer candidates"
    )
    prefix: Literal["own", "clicked_first"] = Field(
        "own",
        description="what precedes a place: lists drawn from the generator, so that it learns to mend its mistakes, "
        "or the clicked items before the displayed rest",
    )
    target: Literal["clicks", "evaluator"] = Field(
        "clicks",
        description="what comes next: an item that was clicked where it was displayed, which teaches to sort; or what "
        "the evaluator holds likely to be clicked behind what stands above it, which teaches to look at the list",
    )
    target_temperature: float = Field(
        0.5, gt=0, description="temperature of the softmax over the evaluator's log-odds that is imitated"
    )
    thought_share: Share = Field(
        0.0,
        description="share of the places, drawn at random, before which there are 1 to model.reasoning.max_steps "
        "thoughts, so that the generator is used to them before they are reinforced",
    )
    step_weight: float = Field(
        0.0,
        ge=0,
        description="weight of a loss of every thought's own: the loss of the choice as it is behind it, and as far as "
        "that is not step_margin lower than before it the difference once more",
    )
    step_margin: float = Field(0.0, ge=0, description="by how many nats every thought is to lower the loss")


class WriterTrainerOptions(ListTrainerOptions):
    """Hold what trainings share in which the evaluator judges lists that the generator writes.

    The last weights are kept: validation counts clicks on the order that was displayed, which is not what is optimised.

    Attributes:
        table: of the settings, for messages.
    """

    table: ClassVar[str]
    keep: Literal["best", "last"] = Field(
        "last",
        description="which weights the model ends with; the best by clicks on the displayed order are mostly those "
        "before the first step",
    )
    patience: int | None = Field(None, ge=1, description="stop after this many validations without a better one")
    batch_size: int = Field(32, ge=1, description="requests for which one step writes lists")
    learning_rate: float = Field(1e-4, gt=0, description="learning rate of AdamW")
    length: int = Field(
        10, ge=1, description="places of the lists that are written, fewer where there are fewer candidates"
    )
    reward: RewardKind = Field(
        "mean",
        description="what of the click probabilities is rewarded: their mean, sum, or sum with place k divided by "
        "log2(k + 1). Where every list has one click the mean says little about order",
    )
    failed_check: Literal["refuse", "warn"] = Field(
        "warn", description="what to do when the evaluator does not prefer logged lists to shuffled ones"
    )


class ExpertOptions(WriterTrainerOptions):
    """Imitate, of several lists that the generator writes, the one that the evaluator likes best: expert iteration."""

    table: ClassVar[str] = "expert"
    steps: int = Field(0, ge=0, description="number of batches of lists; 0 leaves the training out")
    best_of: int = Field(
        16, ge=2, description="lists written for each request, the first greedily and the others at random"
    )


class GrpoOptions(WriterTrainerOptions):
    """Reinforce the generator by the evaluator's judgement."""

    table: ClassVar[str] = "grpo"
    steps: int = Field(300, ge=0, description="number of batches of rollouts; 0 leaves the training out")
    group_size: int = Field(8, ge=2, description="lists drawn for each request")
    advantage: Literal["list", "position"] = Field(
        "list", description="compare whole lists, or at each place what came from there on"
    )
    gamma: Share = Field(1.0, description="discount of what comes later, where places are compared")
    advantage_epsilon: float = Field(1e-6, ge=0, description="number added to the standard deviation of a group")
    updates: int = Field(1, ge=1, description="updates per batch of rollouts; from the second on ratios differ from 1")
    clip_low: Share = Field(0.2, description="how far below 1 probability ratios may fall")
    clip_high: float = Field(0.2, ge=0, description="how far above 1 probability ratios may rise")
    kl_coefficient: float = Field(
        0.1,
        ge=0,
        description="weight of the k3 divergence from the start; too little lets the generator exploit the evaluator",
    )
    entropy_coefficient: float = Field(1e-3, ge=0, description="weight of the entropy of the choices")
