"""How R²ec is trained."""

import math
from typing import Literal

from pydantic import Field, model_validator

from thinkrank.language.options import GenerationOptions
from thinkrank.policy.options import Normalisation, RatioLevel, Selection
from thinkrank.teachers.history_rules import ALL_FORMS, Form
from thinkrank.training.options import AdapterTrainerOptions


class RetrieverTrainerOptions(AdapterTrainerOptions):
    """Settings that every training of R²ec shares."""

    refresh_every: int = Field(100, ge=1, description="steps between two encodings of the whole item table")


class ContrastiveOptions(RetrieverTrainerOptions):
    """Settings for training without reinforcement: alone, as a cold start of thoughts, as the warm start of RecPO."""

    supervision: Literal["every_prefix", "last"] = Field(
        "every_prefix",
        description="what a forward pass learns: with every_prefix to predict after each line of a stretch of history; "
        "with last one prediction per prompt, as in the paper",
    )
    train_in_file_order: bool = Field(
        False,
        description="whether an event may be predicted from events at its own time that stand before it in the file, "
        "in training alone; validation and test keep the split's rule",
    )
    negatives: Literal["catalogue", "in_batch"] = Field(
        "catalogue",
        description="what targets compete with: the whole item table, detached, or the batch's other targets",
    )
    live_items: int = Field(
        0, ge=0, description="how many of a step's targets are encoded with gradient, with catalogue negatives"
    )
    stretch: int = Field(
        32, ge=2, description="events that one sequence of every_prefix is made for; it begins a quarter earlier"
    )
    item_dropout: float = Field(
        0.2, ge=0, lt=1, description="share of an item's state left out in training, where histories are read late"
    )
    hidden_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the items, drawn anew at every step, that are read and scored by their texts alone, so "
        "that items never trained on find their place among the others",
    )
    batch_size: int = Field(4, ge=1, description="sequences in one forward pass")
    accumulate: int = Field(1, ge=1, description="forward passes per update; in-batch negatives come from one of them")
    sharding: Literal["none", "fsdp"] = Field(
        "none",
        description="what each of several processes holds of the language model's frozen weights: none for all of "
        "them, fsdp for a part of each layer, which is whole only while it computes",
    )
    thought_share: float = Field(
        0.0, ge=0, le=1, description="share of closings behind a thought that rules wrote from the history"
    )
    thought_readings: int = Field(
        10_000,
        ge=0,
        description="answers behind a thought that the whole training should read at least; with every_prefix a "
        "sequence gets as many closings as that takes, at most one per line",
    )
    after_thought_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of the item loss that answers behind a thought carry; 0 counts every answer alike",
    )
    thought_source: Literal["rules", "oracle", "crowd", "crowd_of_others"] = Field(
        "rules",
        description="what a thought tells that is not sampled: the history, or, with oracle, the attributes of what "
        "comes next, which bounds what any thought can bring; thought_weight = 0 then trains no writing. With crowd it "
        "tells what all others chose with the items of the history, and is read only: set model.thinker = crowd. "
        "crowd_of_others tells that of another user's history, and shows what the form alone brings",
    )
    distil_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the divergence of the answer at once from the one behind the thought about the same "
        "history, which is its fixed target; 0 distils nothing",
    )
    thought_forms: tuple[Form, ...] = Field(
        ALL_FORMS, min_length=1, description="what a thought written by rules may tell"
    )
    thought_weight: float = Field(
        0.5, ge=0, description="weight of the loss of writing thoughts by rules, a mean over tokens"
    )

    @property
    def closings(self) -> int:
        """Count the closings that a sequence of `every_prefix` needs for `thought_readings`."""
        expected = self.sequences * self.thought_share
        return max(1, math.ceil(self.thought_readings / expected)) if expected else 1

    @property
    def sequences(self) -> int:
        """Count the sequences of the whole training."""
        return self.steps * self.accumulate * self.batch_size

    def expected_readings(self, window: int) -> int:
        """Count the answers behind a thought that the training reads, where prompts show at most `window` lines."""
        closings = min(self.closings, window) if self.supervision == "every_prefix" else 1
        return round(self.sequences * closings * self.thought_share)


class RecpoOptions(RetrieverTrainerOptions):
    """Settings for reinforcement learning of thoughts and answers together (R²ec, section 3.3)."""

    steps: int = Field(0, ge=0, description="batches of rollouts; 0 leaves the training out")
    users: int = Field(8, ge=1, description="histories per batch of rollouts")
    group_size: int = Field(4, ge=2, description="how many thoughts are sampled about each history")
    rollout: GenerationOptions = Field(
        GenerationOptions(max_new_tokens=48, temperature=1.0), description="how thoughts are sampled, but for its seed"
    )
    behind: int = Field(
        0,
        ge=0,
        le=1,
        description="updates that the weights which write thoughts are behind those that learn; with 1 the next "
        "batch's thoughts are written while this one is learnt from, and importance_weights correct for it",
    )
    redraw: int = Field(0, ge=0, description="times that groups whose rewards tie are replaced by other users' groups")
    filter_seen: bool = Field(True, description="items of the history do not compete, in rewards and in the item loss")

    ndcg_k: int | None = Field(1000, ge=1, description="cut-off of the reward's NDCG; none is the whole catalogue")
    beta: float = Field(0.05, ge=0, le=1, description="weight of the softmax similarity in the fused reward")
    fused_weight: float = Field(1.0, ge=0, description="weight of the fused reward of NDCG and softmax similarity")
    gain_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the reward of what a thought adds, in nats, to the target's log-probability in the "
        "answer without a thought",
    )
    gain_limit: float = Field(5.0, gt=0, description="largest gain or loss that is rewarded, in nats")
    marginal_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the reward of what a thought adds to the log of the mean probability that the group's "
        "thoughts give the target; with advantages = plain it is an advantage as it stands",
    )
    targets: int = Field(
        1, ge=1, description="how many of the user's next training events a thought is rewarded for, their mean"
    )
    format_weight: float = Field(0.0, ge=0, description="weight of the reward of a thought that writes its closing")
    length_weight: float = Field(
        0.0, ge=0, description="weight of the penalty of length, which is whole at the token budget"
    )
    free_tokens: int = Field(0, ge=0, description="tokens before the penalty of length begins")
    diversity_weight: float = Field(0.0, ge=0, description="weight of the reward of words that no sibling wrote")

    advantages: Literal["grpo", "rloo", "centred", "plain"] = Field(
        "grpo", description="how siblings are compared; with plain a reward is the advantage as it stands"
    )
    advantage_epsilon: float = Field(1e-4, ge=0, description="what GRPO adds to the standard deviation of a group")
    credit: Literal["own", "group_mean"] = Field(
        "own",
        description="whose advantage a thought's tokens get: its own, or, as in the released code, the group's",
    )

    updates: int = Field(1, ge=1, description="updates per batch of rollouts; from the second on ratios differ from 1")
    batch_tokens: int = Field(2048, ge=1, description="tokens in one packed pass, unless one group alone has more")
    normalisation: Normalisation = Field("sequence", description="what a sequence's sum of token losses is divided by")
    ratio_level: RatioLevel = Field(
        "token", description="whether probability ratios are of tokens or of whole thoughts"
    )
    clip_low: float = Field(0.2, ge=0, le=1, description="how far below 1 probability ratios may fall")
    clip_high: float = Field(0.2, ge=0, description="how far above 1 probability ratios may rise")
    importance_weights: bool = Field(
        False, description="whether temperature and cuts of the sampling are corrected for"
    )
    weight_cap: float = Field(2.0, gt=0, description="largest correction for temperature and cuts of the sampling")
    kl_coefficient: float = Field(
        0.0, ge=0, description="coefficient of the k3 divergence from the model as it was at the start"
    )
    entropy_coefficient: float = Field(0.0, ge=0, description="coefficient of the entropy bonus")

    token_weight: float = Field(
        1.0, ge=0, description="weight of the thought's tokens in the loss; 0 trains no thought"
    )
    token_balance: float = Field(
        0.0,
        ge=0,
        description="norm that the gradient of the thought's tokens shall have beside that of all other terms "
        "together, by a running factor on token_weight; 0 leaves the weight as it is",
    )
    measure_every: int = Field(
        10, ge=1, description="batches between two measurements of how strong each term of the loss pulls"
    )
    item_weight: float = Field(1.0, ge=0, description="weight of the item action in the loss, advantages included")
    item_floor: float = Field(0.0, ge=0, description="weight of plain cross-entropy on the target after every thought")
    item_marginal: float = Field(
        0.0,
        ge=0,
        description="weight of minus the log of the target's mean probability over a group's thoughts, which trains "
        "an answer that is a mean over thoughts",
    )
    line_weight: float = Field(0.0, ge=0, description="weight of contrastive training at the history's line ends")
    candidates: Literal["in_batch", "memory", "catalogue"] = Field(
        "in_batch",
        description="what the target competes with: the batch's targets, these and those of earlier batches, or all",
    )
    memory: int = Field(
        256, ge=0, description="how many targets drawn before the batch compete too, with candidates = memory"
    )
    live_items: int = Field(
        0, ge=0, description="how many targets are encoded with gradient, with candidates = catalogue"
    )
    selection: Selection = Field("best", description="which thoughts of a group train the item action")
    selection_k: int = Field(
        1, ge=1, description="how many thoughts of a group train the item action, with selection = top_k"
    )
    selection_floor: float = Field(
        0.0, description="lowest advantage that trains the item action, with selection = floor"
    )

    gate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="p value below which the own thought must beat another person's on the validation samples, in the "
        "target's log-probability, before reinforcement begins, else the start is kept; none asks nothing",
    )
    knowledge_samples: int = Field(
        0,
        ge=0,
        description="validation samples on which is told, before reinforcement, what the writer's words and the item "
        "head know of the next item's attribute; 0 tells nothing",
    )
    refresh_rows: int = Field(
        0, ge=0, description="how many rows of the item table, the oldest, are encoded anew at every step"
    )

    @model_validator(mode="after")
    def _comparable(self) -> "RecpoOptions":
        if not (self.token_weight or self.reads_thoughts or self.line_weight):
            raise ValueError("every weight of the loss is 0, so there is nothing to train")
        if (self.kl_coefficient or self.entropy_coefficient) and not self.token_weight:
            raise ValueError("kl_coefficient and entropy_coefficient belong to the token loss, whose weight is 0")
        if self.token_weight and not (self.fused_weight or self.gain_weight or self.marginal_weight):
            raise ValueError("fused_weight, gain_weight and marginal_weight are all 0, so no answer is rewarded")
        if self.rollout.temperature == 0:
            raise ValueError("rollouts need a rollout.temperature above 0: greedy thoughts are all the same")
        if self.length_weight and self.free_tokens >= self.rollout.max_new_tokens:
            raise ValueError("free_tokens must be below rollout.max_new_tokens, where the penalty is whole")
        if self.behind and not (self.importance_weights and self.token_weight):
            raise ValueError("behind = 1 needs importance_weights = true, which correct for it, and a token_weight")
        if self.behind and self.redraw:
            raise ValueError("behind = 1 writes thoughts before any reward is known: set redraw = 0")
        if self.selection == "top_k" and self.selection_k > self.group_size:
            raise ValueError("selection_k cannot exceed group_size")
        return self

    @property
    def reads_thoughts(self) -> bool:
        """Tell whether the item choice behind thoughts is trained."""
        return bool(self.item_weight or self.item_floor or self.item_marginal)
