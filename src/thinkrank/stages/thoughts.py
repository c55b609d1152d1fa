"""Thoughts as plain data; apart from the answers, which can be read without torch."""

import numpy as np

from thinkrank.language.engines.base import Completion
from thinkrank.stages.answers import Thought


def thought_of(written: Completion) -> Thought:
    """Turn a completion into plain data."""
    return Thought(
        text=written.text.strip(),
        token_ids=np.asarray(written.ids, dtype=np.int32),
        logprobs=np.asarray(written.logprobs, dtype=np.float32),
        entropies=np.asarray(written.entropies, dtype=np.float32),
        finish_reason=written.finish_reason,
        seconds=written.seconds,
    )
