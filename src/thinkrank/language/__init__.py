"""The language model as an instrument. It knows nothing of recommendation.

`loading` finds a model, `text` turns trusted templates and untrusted text into token ids, `adapters` makes a model
trainable and `acting` says whose weights act, `options` holds the settings (no torch). What sequences share is computed
once: `prefix_tree` writes them down, `packing` reads and trains them in one pass, `reading` and `trajectories` know
what is read where, and `engines` write on. `logprobs` scores given tokens. `attention` is the one place where those
plug into a model, `linear` what its layers run on, and `exact` lets bf16 weights be read with fp32 numbers. `states`
reads the plain way, sequence beside sequence.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
