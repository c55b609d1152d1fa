from .answers import Recommendation as Recommendation
from .evidence_ranker import EvidenceRanker as EvidenceRanker
from .model import Cascade as Cascade
from .options import Blend as Blend
from .options import Budget as Budget
from .options import CascadeConfig as CascadeConfig
from .options import StageCost as StageCost
