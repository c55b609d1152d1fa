from .options import RelayOptions as RelayOptions
from .options import WorldOptions as WorldOptions
from .oracle import expected_ndcg as expected_ndcg
from .relay import RelayWorld as RelayWorld
from .relay import relay_split as relay_split
from .world import World as World
