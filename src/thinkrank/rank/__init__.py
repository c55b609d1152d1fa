"""R2Rank: think about each (user, item) pair, score it, sort.

`config` holds the settings, `prompts` asks about a pair, `head` turns what was thought into one number, `model` ranks.
`cold_start` teaches thoughts and scores from traces (who writes those is in `teachers`), `reinforce` carries the reward
of the whole list back to the thought about each pair. `zero_shot` asks an untrained model instead.
"""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.rank.cold_start import fit_cold_start
    from thinkrank.rank.config import ColdStartOptions, R2RankConfig, ReinforceOptions
    from thinkrank.rank.model import R2Rank
    from thinkrank.rank.reinforce import fit_reinforce

_HOMES = {
    "ColdStartOptions": "config",
    "R2Rank": "model",
    "R2RankConfig": "config",
    "ReinforceOptions": "config",
    "fit_cold_start": "cold_start",
    "fit_reinforce": "reinforce",
}

__all__ = ["ColdStartOptions", "R2Rank", "R2RankConfig", "ReinforceOptions", "fit_cold_start", "fit_reinforce"]

__getattr__ = lazy_names(__name__, _HOMES)
