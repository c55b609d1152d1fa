"""Settings of a language model, importable without torch so that the command line can show and check them."""

from typing import Literal

from pydantic import Field

from thinkrank.options import Options

DTypeName = Literal["auto", "float32", "bfloat16"]

FinishReason = Literal["closed", "end_of_turn", "length"]
"""Why a text ended: it wrote its closing, it ended its turn, or its token budget ran out."""


class LoraOptions(Options):
    """A low-rank update W + (alpha / rank) B A of the linear layers (Hu et al. 2021)."""

    rank: int = Field(16, ge=1, description="inner width of the update")
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the input of the update, in training only")
    top_layers: int | None = Field(
        None, ge=1, description="adapt only this many of the last layers; the rest runs without gradient"
    )


class GenerationOptions(Options):
    """How to write.

    Sampling (`temperature` above 0) draws from softmax(logits / temperature) cut to the `top_k` likeliest tokens and
    then to the smallest set whose probability reaches `top_p`.
    """

    max_new_tokens: int = Field(64, ge=1, description="token budget of one continuation")
    temperature: float = Field(0.0, ge=0, description="0 is greedy decoding")
    top_k: int | None = Field(None, ge=1, description="sample among the k likeliest tokens only")
    top_p: float = Field(1.0, gt=0, le=1, description="sample among the likeliest tokens that hold this probability")
    seed: int = Field(0, ge=0, description="of the sampling; ignored by greedy decoding")
    batch_size: int = Field(64, ge=1, description="continuations written together at most")
    kv_gib: float = Field(1.0, gt=0, description="memory for keys and values at most, in GiB")
