"""Settings of a language model, importable without torch so that the command line can show and check them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from thinkrank.options import Options

INSTALLED_MODELS = ("smollm2", "tiny")
"""Names of models that are no folders, whatever lies in the folder one stands in."""


def _findable(name: str) -> str:
    """Make a folder or file absolute: its relative name, read elsewhere, could be a stranger's on the hub."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name not in INSTALLED_MODELS and name and path.exists() else name


BackboneName = Annotated[str, AfterValidator(_findable)]
"""Name of a language model; one that is here as a folder or file becomes absolute."""

DTypeName = Literal["auto", "float32", "bfloat16"]

FinishReason = Literal["closed", "end_of_turn", "length"]
"""Why a text ended: it wrote its stop, it ended its turn, or its token budget ran out."""


class LoraOptions(Options):
    """Adapt linear layers by a low-rank update W + (alpha / rank) B A (Hu et al. 2021)."""

    rank: int = Field(16, ge=1, description="inner width of the adapter's low-rank update")
    alpha: float = Field(32.0, gt=0, description="scale of the adapter's update, times its rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of the adapter, in training only")
    top_layers: int | None = Field(
        None, ge=1, description="how many of the last layers are adapted; the rest runs without gradient"
    )


class GenerationOptions(Options):
    """Say how to write.

    Sampling (`temperature` above 0) draws from softmax(logits / temperature) cut to the `top_k` likeliest tokens and
    then to the smallest set whose probability reaches `top_p`.
    """

    max_new_tokens: int = Field(64, ge=1, description="token budget of one text")
    temperature: float = Field(0.0, ge=0, description="temperature of the sampling; 0 is greedy decoding")
    top_k: int | None = Field(None, ge=1, description="sample among the k likeliest tokens only")
    top_p: float = Field(1.0, gt=0, le=1, description="sample among the likeliest tokens that hold this probability")
    seed: int = Field(0, ge=0, description="seed of the sampling; greedy decoding ignores it")
    batch_size: int = Field(64, ge=1, description="texts written together at most")
    kv_gib: float = Field(1.0, gt=0, description="memory that keys and values take at most, in GiB")

    @property
    def is_own(self) -> bool:
        """Tell whether texts are drawn from the model's own distribution."""
        return self.temperature == 1 and self.top_k is None and self.top_p == 1

    def for_samples(self, count: int) -> "GenerationOptions":
        """Return what several texts behind one prompt are written with: at temperature 1 where one would be greedy."""
        return self if count == 1 or self.temperature else self.model_copy(update={"temperature": 1.0})


class LatentOptions(Options):
    """Say how many latent positions stand behind each place that is read, and how they learn.

    Steps are numbered from 0, the place itself, to K, the last position. In R²ec places are items of a history that is
    read late. R2Rank's reinforcement rewards the answer alone: `step_weights`, `sharpening`, `repulsion` and
    `alone_steps` belong to its cold start.
    """

    steps: int = Field(
        0,
        ge=0,
        description="latent positions that are read behind a place before the answer is; 0 reads the answer at the "
        "place itself. In R²ec places are items, and reading = late is needed",
    )
    feedback: Literal["none", "state", "parallel"] = Field(
        "state",
        description="what latent positions know of each other: with none each sees those before it; with state each "
        "is also fed the state that the one before it ended in; with parallel none sees another",
    )
    answer: Literal["last", "mean"] = Field(
        "last",
        description="from which latent positions an answer is read: the last, or all by the mean of their scores",
    )
    trained: bool = Field(
        True, description="whether the inputs of latent positions learn; as a control they stay as they were drawn"
    )
    step_weights: tuple[float, ...] = Field(
        (),
        description="weights of the losses of the place and of each latent position behind it, which are divided by "
        "their sum; with none given all weigh alike",
    )
    sharpening: float = Field(
        1.0,
        ge=1,
        description="factor from step to step by which the scores in the loss become sharper; the last step's are as "
        "they are",
    )
    repulsion: float = Field(
        0.0, ge=0, description="weight of the mean cosine between the latent positions of a place in the loss"
    )
    alone_steps: int = Field(
        0, ge=0, description="updates at the beginning in which the latent positions learn and nothing else does"
    )

    @model_validator(mode="after")
    def _fitting(self) -> "LatentOptions":
        if self.step_weights and len(self.step_weights) != self.steps + 1:
            raise ValueError(
                f"step_weights must have {self.steps + 1} weights, one for the place and one for each step"
            )
        if self.step_weights and (min(self.step_weights) < 0 or not self.step_weights[-1]):
            raise ValueError("step_weights must not be negative, and that of the last step must be above 0")
        if not self.trained and (self.feedback == "state" or self.alone_steps):
            raise ValueError("with trained = false nothing is fed back and nothing learns alone: set feedback = none")
        return self

    def weights(self) -> list[float]:
        """Return the weight of each step's loss; their sum is 1."""
        given = self.step_weights or (1.0,) * (self.steps + 1)
        return [weight / sum(given) for weight in given]

    def softenings(self) -> list[float]:
        """Return what the scores of each step are divided by in the loss."""
        return [self.sharpening ** (self.steps - step) for step in range(self.steps + 1)]
