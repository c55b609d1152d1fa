"""How EGLR is trained. All defaults are reconstructed or ours: the paper's are not known."""

from typing import Literal

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
    """Teach the generator by labels to put clicked items first. It does not think yet."""

    length: int = Field(
        10, ge=1, description="places of a list that are trained, fewer where there are fewer candidates"
    )
    prefix: Literal["own", "clicked_first"] = Field(
        "own",
        description="what precedes a place: lists drawn from the generator, so that it learns to mend its mistakes, "
        "or the clicked items before the displayed rest",
    )


class GrpoOptions(ListTrainerOptions):
    """Reinforce the generator by the evaluator's judgement."""

    steps: int = Field(300, ge=0, description="number of batches of rollouts; 0 leaves the training out")
    batch_size: int = Field(32, ge=1, description="requests for which one step writes lists")
    learning_rate: float = Field(1e-4, gt=0, description="learning rate of AdamW")
    length: int = Field(
        10, ge=1, description="places of the lists that are written, fewer where there are fewer candidates"
    )
    group_size: int = Field(8, ge=2, description="lists drawn for each request")
    reward: RewardKind = Field(
        "mean",
        description="what of the click probabilities is rewarded: their mean, sum, or sum with place k divided by "
        "log2(k + 1). Where every list has one click the mean says little about order",
    )
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
    failed_check: Literal["refuse", "warn"] = Field(
        "refuse", description="what to do when the evaluator does not prefer logged lists to shuffled ones"
    )
