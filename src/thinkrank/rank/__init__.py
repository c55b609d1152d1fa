"""R2Rank: think about each (user, item) pair, score it, sort.

`config` holds the settings, `prompts` asks about a pair, `head` turns what was thought into one number, `model` ranks.
`cold_start` teaches thoughts and scores from traces (who writes those is in `teachers`), `reinforce` carries the reward
of the whole list back to the thought about each pair. `zero_shot` asks an untrained model instead.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
