"""Settings of a language model, importable without torch so that the command line can show and check them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

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
