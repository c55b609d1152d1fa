from .crowd import Crowd as Crowd
from .features import EvidenceFeatures as EvidenceFeatures
from .features import FeatureOptions as FeatureOptions
from .transitions import TransitionOptions as TransitionOptions
from .transitions import Transitions as Transitions
