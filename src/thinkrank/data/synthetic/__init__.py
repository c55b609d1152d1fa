"""Worlds that are made, not read, so that what a good system should answer is known.

`World` has users whose tastes drift and who click on lists; `RelayWorld` has one right answer per user, two look-ups
away from what is shown.
"""

from thinkrank.data.synthetic.options import RelayOptions, WorldOptions
from thinkrank.data.synthetic.oracle import expected_ndcg
from thinkrank.data.synthetic.relay import RelayWorld, relay_split
from thinkrank.data.synthetic.world import World

__all__ = ["RelayOptions", "RelayWorld", "World", "WorldOptions", "expected_ndcg", "relay_split"]
