"""The language model as an instrument. It knows nothing of recommendation.

`backbone` finds a model, `prompts` turns trusted templates and untrusted text into token ids, `generation` continues
them, `states` and `pooling` read them, `adapters` makes a model trainable, `options` holds the settings (no torch).
"""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.language.adapters import add_lora, load_lora, save_lora
    from thinkrank.language.backbone import Backbone, load_backbone
    from thinkrank.language.generation import Continuation, generate
    from thinkrank.language.options import GenerationOptions, LoraOptions
    from thinkrank.language.pooling import last_states
    from thinkrank.language.prompts import ChatFrame, Prompt, encode_text
    from thinkrank.language.states import hidden_states, pad
    from thinkrank.language.tiny import tiny_backbone

_HOMES = {
    "Backbone": "backbone",
    "ChatFrame": "prompts",
    "Continuation": "generation",
    "GenerationOptions": "options",
    "LoraOptions": "options",
    "Prompt": "prompts",
    "add_lora": "adapters",
    "encode_text": "prompts",
    "generate": "generation",
    "hidden_states": "states",
    "last_states": "pooling",
    "load_backbone": "backbone",
    "load_lora": "adapters",
    "pad": "states",
    "save_lora": "adapters",
    "tiny_backbone": "tiny",
}

__all__ = [
    "Backbone",
    "ChatFrame",
    "Continuation",
    "GenerationOptions",
    "LoraOptions",
    "Prompt",
    "add_lora",
    "encode_text",
    "generate",
    "hidden_states",
    "last_states",
    "load_backbone",
    "load_lora",
    "pad",
    "save_lora",
    "tiny_backbone",
]

__getattr__ = lazy_names(__name__, _HOMES)
