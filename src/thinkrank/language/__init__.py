"""The language model as an instrument. It knows nothing of recommendation.

`backbone` finds a model, `prompts` turns trusted templates and untrusted text into token ids, `adapters` makes a model
trainable, `options` holds the settings (no torch). What sequences share is computed once: `forest` writes them down,
`packing` reads and trains them in one pass, `sampling` continues them with `memory` for their keys and values
(`vllm_sampling` is another engine for it), `logprobs` scores given tokens. `attention` is the one place where those
plug into a model, `linear` what its layers run on. `states` and `pooling` read the plain way, sequence beside sequence.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
