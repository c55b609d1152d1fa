"""Learning-rate schedules, as a factor on the configured rate."""

from typing import Literal


def warmup_factor(
    step: int,
    *,
    warmup_steps: int,
    total_steps: int,
    decay: Literal["linear", "constant"],
    floor: float = 0.05,
    time_share: float = 0.0,
) -> float:
    """Rise linearly over the warm-up, then fall linearly to `floor` or stay at 1.

    The warm-up is real under both decays (the "constant" schedule of transformers ignores it, which is how the released
    R²ec code comes to train without one).

    Args:
        step: 0-based update about to be made; the first one already moves, at 1 / (warmup_steps + 1).
        warmup_steps: updates before the full rate.
        total_steps: planned updates.
        decay: what follows the warm-up.
        floor: factor at the last step of a linear decay.
        time_share: share of the time limit that is spent; a linear decay ends with the steps or the time, whichever
            comes first.
    """
    rise = min(1.0, (step + 1) / (warmup_steps + 1))
    if decay == "constant" or step <= warmup_steps:
        return rise
    progress = max((step - warmup_steps) / max(1, total_steps - 1 - warmup_steps), time_share)
    return max(floor, 1.0 - (1.0 - floor) * progress)
