"""A causal language model with its tokenizer, whatever it was loaded from."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from thinkrank.language.acting import acting, adapted_layers
from thinkrank.language.exact import exact, is_exact
from thinkrank.language.item_tokens import Halves, ItemTokens

if TYPE_CHECKING:
    CausalModel: TypeAlias = PreTrainedModel
else:
    CausalModel = torch.nn.Module  # with an adapter it is a peft model, which is no PreTrainedModel


@runtime_checkable
class Keeps(Protocol):
    """Reader that keeps what it read; see `thinkrank.language.kept_states`."""

    def read(
        self, backbone: Any, sequences: Sequence[Sequence[int]], *, batch_tokens: int, latents: Any = None
    ) -> torch.Tensor:
        """Read the state at the last token of each sequence and at latent positions behind it, without gradient."""
        ...


@dataclass(frozen=True, eq=False)
class Backbone:
    """Hold a causal language model, its tokenizer, and where they came from.

    Attributes:
        model: a transformers causal LM, in eval mode; with an adapter it is a peft model around one.
        tokenizer: its tokenizer.
        source: what `load_backbone` was asked for, so that a saved model can name it.
        items: tokens behind the vocabulary that stand for items, which only the upper layers read; None for none.
        kept: keeps what was read of sequences without gradient, where weights no longer change; None keeps nothing.
    """

    model: CausalModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    items: ItemTokens | None = None
    kept: Keeps | None = None

    @cached_property
    def halves(self) -> Halves:
        """Return the layers below and above the boundary at which items enter."""
        if self.items is None:
            raise ValueError("this backbone has no item tokens, so no boundary")
        return Halves(self.trunk(), self.items.depth)

    @property
    def device(self) -> torch.device:
        """Return where the weights live."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the number format of the base weights."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def hidden_size(self) -> int:
        """Return the width D of the hidden states."""
        return int(self.model.config.hidden_size)

    @property
    def pad_id(self) -> int:
        """Return what fills padded places; masks, never this id, say what is padding."""
        for token_id in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token_id is not None:
                return int(token_id)
        return 0

    @property
    def end_of_turn_ids(self) -> frozenset[int]:
        """Return the tokens with which the model ends its turn."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(i for i in (*ids, self.tokenizer.eos_token_id) if i is not None)

    def precision(self) -> torch.autocast:
        """Open the context of every forward pass: bf16 weights compute in bf16, their fp32 adapters included."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16 and not is_exact())

    def exact(self) -> AbstractContextManager[None]:
        """Read in fp32 whatever the weights are, in this thread and until the end of the block: for what is judged."""
        return exact() if self.dtype in (torch.bfloat16, torch.float16) else nullcontext()

    def without_adapter(self) -> AbstractContextManager[None]:
        """Let the base model act alone in this thread, until the end of the block."""
        return acting(dict.fromkeys(adapted_layers(self.model).values()))

    def trunk(self) -> torch.nn.Module:
        """Return the decoder without its language head; adapters inside it stay active."""
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return causal.base_model
