"""How much language models read, whoever asks them and however."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook


@dataclass
class Count:
    """Hold how many tokens were read or written.

    Attributes:
        tokens: that passed the last layer of a decoder, those of items included.
    """

    tokens: int = 0


@contextmanager
def counted_tokens() -> Iterator[Count]:
    """Count the tokens of every decoder in this process until the end of the block; it costs a call per module."""
    count = Count()

    def look(module: Any, inputs: tuple[Any, ...]) -> None:
        attention: Any = getattr(module, "self_attn", None)
        config = getattr(attention, "config", None)
        if config is not None and attention.layer_idx == config.num_hidden_layers - 1:
            count.tokens += inputs[0].shape[:-1].numel()

    hook = register_module_forward_pre_hook(look)
    try:
        yield count
    finally:
        hook.remove()
