"""What a language model wrote, as stages answer with it."""

import numpy as np

from thinkrank.language import Continuation
from thinkrank.stages import Thought


def thought_of(written: Continuation) -> Thought:
    """A continuation as plain data."""
    return Thought(
        text=written.text.strip(),
        token_ids=np.asarray(written.ids, dtype=np.int32),
        logprobs=np.asarray(written.logprobs, dtype=np.float32),
        entropies=np.asarray(written.entropies, dtype=np.float32),
        finish_reason=written.finish_reason,
        seconds=written.seconds,
    )
