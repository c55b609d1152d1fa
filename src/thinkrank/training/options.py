"""Settings that every training has."""

from typing import Literal

from pydantic import Field

from thinkrank.options import Options


class TrainerOptions(Options):
    """Settings that every training shares; a stage adds its own."""

    steps: int = Field(300, ge=0, description="how many updates, or batches of rollouts; 0 leaves the training out")
    learning_rate: float = Field(
        1e-3, gt=0, description="learning rate of AdamW; where a head has a rate of its own, of everything else"
    )
    warmup_steps: int = Field(20, ge=0, description="steps over which the learning rates rise linearly from 0")
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="what the learning rates do after the warm-up: fall to 5 %, or stay"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="weight decay of AdamW; never on a head with a learning rate of its own"
    )
    grad_clip: float = Field(
        1.0, gt=0, description="largest norm of the gradient, that of a head with a learning rate of its own left out"
    )
    validate_every: int = Field(100, ge=1, description="steps between two validations")
    keep: Literal["best", "last"] = Field(
        "best", description="which weights the model ends with; on few validation samples the best is mostly luck"
    )
    patience: int | None = Field(None, ge=1, description="stop after this many validations without a better one")
    checkpoint_every: int = Field(20, ge=1, description="steps between two checkpoints")
    max_minutes: float | None = Field(
        None, gt=0, description="stop early at this training time; a run that hits it is not reproducible bit for bit"
    )
    max_cpu_minutes: float | None = Field(
        None,
        gt=0,
        description="stop early when the steps, validations left out, have taken this much of the processor's time, "
        "all threads together, which other work on the machine does not use up; not reproducible bit for bit",
    )
    seed: int = Field(0, ge=0, description="random seed of the order of examples, the rollouts and the initial weights")


class AdapterTrainerOptions(TrainerOptions):
    """Settings for training a language model's adapter and a head that scores."""

    head_learning_rate: float = Field(1e-2, gt=0, description="learning rate of the head that scores")
    validation_samples: int = Field(
        300, ge=1, description="how many validation examples to use, drawn once by the seed"
    )
