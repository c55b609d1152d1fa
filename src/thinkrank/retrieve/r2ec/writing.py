"""Who writes thoughts: the adapter that reads, another one, or a tool that counts."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from torch import Tensor

from thinkrank.data.history import History
from thinkrank.language import Completion, Engine, GenerationOptions, TransformersEngine
from thinkrank.language.acting import acting
from thinkrank.language.adapters import adapter_state, layer_weights
from thinkrank.language.engines.served import ServedEngine
from thinkrank.retrieve.r2ec.crowd import crowd_thoughts

if TYPE_CHECKING:
    from thinkrank.retrieve.r2ec.model import R2ec


class WriterNames:
    """Publish weights to an engine once, and again after they were replaced."""

    def __init__(self) -> None:
        self._kept: tuple[Engine, Mapping[str, Tensor], str] | None = None

    def of(self, engine: Engine, weights: Mapping[str, Tensor]) -> str:
        """Return the name under which an engine knows these weights."""
        kept = self._kept
        if kept is None or kept[0] is not engine or kept[1] is not weights:
            if kept is not None and isinstance(kept[0], TransformersEngine | ServedEngine):
                kept[0].withdraw(kept[2])
            kept = engine, weights, f"writer-{uuid.uuid4().hex}"
            engine.publish(kept[2], weights)
            self._kept = kept
        return kept[2]


def thoughts_about(
    model: "R2ec", histories: Sequence[History], options: GenerationOptions | None, samples: int = 1
) -> list[list[Completion]]:
    """Write so many thoughts about each history, or what a control puts in their place."""
    written = _written(model, histories, options, samples)
    return written if model.instead is None else model.instead(written)


def _written(
    model: "R2ec", histories: Sequence[History], options: GenerationOptions | None, samples: int
) -> list[list[Completion]]:
    """Write so many thoughts about each history; what the crowd did is the same each time."""
    if model.config.thinker == "crowd":
        if model.told is None or not model.told.is_of(model.crowd, model.catalogue, model.prompts):
            model.told = crowd_thoughts(model.crowd, model.catalogue, model.prompts)
        told = model.told.write(histories)
        return [[thought] * samples for thought in told]
    prompts = [model.asking.user(history).prompt for history in histories]
    return model.sample(prompts, options, num_samples=samples)


def writes_apart(model: "R2ec") -> bool:
    """Tell whether thoughts are written by an adapter of their own, which is trained beside the reading one."""
    return model.config.thinker == "apart"


def begin_writer(model: "R2ec") -> list[Tensor]:
    """Give a model whose writer is apart weights to begin with, those of its reader, and return them for training."""
    if not writes_apart(model):
        return []
    if not model.writer:
        model.writer = {name: tensor.detach().clone() for name, tensor in adapter_state(model.backbone).items()}
    return [tensor.requires_grad_() for tensor in model.writer.values()]


def writing(model: "R2ec") -> AbstractContextManager[None]:
    """Let the writer's weights act in this thread, differentiably; the reader's where there is no other."""
    if not writes_apart(model) or not model.writer:
        return nullcontext()
    return acting(layer_weights(model.backbone, model.writer, "the writer"))
