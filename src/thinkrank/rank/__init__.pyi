from .r2rank.cold_start import train_cold_start as train_cold_start
from .r2rank.config import ColdStartOptions as ColdStartOptions
from .r2rank.config import R2RankConfig as R2RankConfig
from .r2rank.config import ReinforceOptions as ReinforceOptions
from .r2rank.model import R2Rank as R2Rank
from .r2rank.reinforce import train_reinforce as train_reinforce
from .zero_shot import ListPrompt as ListPrompt
