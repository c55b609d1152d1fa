"""What is looked at before thoughts are reinforced: whether the reader reads them, and whether the writer knows more.

Reinforcement selects among thoughts by what the reader makes of them. A reader to whom another person's thought is as
good as one's own has learnt to read nothing, and selects by chance.
"""

import logging

from thinkrank.data import Samples, Split
from thinkrank.evaluate import PairedTest, paired_test
from thinkrank.retrieve import R2ec, RecpoOptions
from thinkrank.retrieve.r2ec.controls import target_logprobs_after
from thinkrank.retrieve.r2ec.knowledge import compare_knowledge

logger = logging.getLogger(__name__)


def own_against_other(model: R2ec, samples: Samples) -> PairedTest:
    """Test whether the target's log-probability is higher after the own thought than after another person's.

    The other thought is the one half the samples away. Samples of one user count as one.

    Args:
        model: what writes and reads.
        samples: histories and targets.
    """
    thoughts = [thought.ids_before_stop for thought in model.think(samples.requests())]
    half = len(thoughts) // 2
    other = [*thoughts[half:], *thoughts[:half]]
    after_own, after_other = (target_logprobs_after(model, samples, read) for read in (thoughts, other))
    return paired_test(after_own, after_other, samples.users)


def before_recpo(model: R2ec, split: Split, options: RecpoOptions) -> str:
    """Say what the options want to know before reinforcement, and why it should not begin.

    Args:
        model: after its warm start.
        split: its valid part is used.
        options: `gate` and `knowledge_samples`, and how many validation samples there are.

    Returns:
        the reason not to begin; empty if there is none.
    """
    if options.knowledge_samples:
        samples = split.valid.subset(options.knowledge_samples, options.seed)
        logger.info("%s", compare_knowledge(model, split, samples))
    if options.gate is None or not len(split.valid):
        return ""
    test = own_against_other(model, split.valid.subset(options.validation_samples, options.seed))
    gain, p_value = test.difference.value, test.p_value
    told = (
        f"the own thought adds {gain:+.4f} nats to another person's (p {'?' if p_value is None else f'{p_value:.3g}'})"
    )
    logger.info("before reinforcement: %s", told)
    if gain > 0 and p_value is not None and p_value < options.gate:
        return ""
    return f"{told}, but recpo.gate wants p < {options.gate:g}: give the warm start more thought_readings"
