"""The language model as an instrument. It knows nothing of recommendation.

`backbone` finds a model, `prompts` turns trusted templates and untrusted text into token ids, `adapters` makes a model
trainable, `options` holds the settings (no torch). What sequences share is computed once: `forest` writes them down,
`packing` reads and trains them in one pass, `sampling` continues them with `memory` for their keys and values
(`vllm_sampling` is another engine for it), `logprobs` scores given tokens. `attention` is the one place where those
plug into a model, `linear` what its layers run on. `states` and `pooling` read the plain way, sequence beside sequence.
"""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.language.adapters import add_lora, load_lora, save_lora
    from thinkrank.language.backbone import Backbone, load_backbone
    from thinkrank.language.forest import Forest
    from thinkrank.language.logprobs import TokenScores, selective_logprobs
    from thinkrank.language.options import GenerationOptions, LoraOptions
    from thinkrank.language.packing import Packing, packed_states
    from thinkrank.language.pooling import last_states
    from thinkrank.language.prefixes import PrefixCache
    from thinkrank.language.prompts import ChatFrame, Prompt, encode_text
    from thinkrank.language.sampling import Continuation, Sampler, TransformersSampler
    from thinkrank.language.states import hidden_states, pad
    from thinkrank.language.tiny import tiny_backbone
    from thinkrank.language.vllm_sampling import VllmSampler

_HOMES = {
    "Backbone": "backbone",
    "ChatFrame": "prompts",
    "Continuation": "sampling",
    "Forest": "forest",
    "GenerationOptions": "options",
    "LoraOptions": "options",
    "Packing": "packing",
    "PrefixCache": "prefixes",
    "Prompt": "prompts",
    "Sampler": "sampling",
    "TokenScores": "logprobs",
    "TransformersSampler": "sampling",
    "VllmSampler": "vllm_sampling",
    "add_lora": "adapters",
    "encode_text": "prompts",
    "hidden_states": "states",
    "last_states": "pooling",
    "load_backbone": "backbone",
    "load_lora": "adapters",
    "packed_states": "packing",
    "pad": "states",
    "save_lora": "adapters",
    "selective_logprobs": "logprobs",
    "tiny_backbone": "tiny",
}

__all__ = [
    "Backbone",
    "ChatFrame",
    "Continuation",
    "Forest",
    "GenerationOptions",
    "LoraOptions",
    "Packing",
    "PrefixCache",
    "Prompt",
    "Sampler",
    "TokenScores",
    "TransformersSampler",
    "VllmSampler",
    "add_lora",
    "encode_text",
    "hidden_states",
    "last_states",
    "load_backbone",
    "load_lora",
    "packed_states",
    "pad",
    "save_lora",
    "selective_logprobs",
    "tiny_backbone",
]

__getattr__ = lazy_names(__name__, _HOMES)
