from . import cascade as cascade
from . import data as data
from . import evaluate as evaluate
from . import language as language
from . import metrics as metrics
from . import policy as policy
from . import rank as rank
from . import recipes as recipes
from . import report as report
from . import rerank as rerank
from . import retrieve as retrieve
from . import stages as stages
from . import teachers as teachers
from . import training as training
from .cascade.answers import Recommendation as Recommendation
from .cascade.model import Cascade as Cascade
from .cascade.options import Budget as Budget
from .data.candidates import Candidates as Candidates
from .data.requests import Requests as Requests
from .data.sources import load_dataset as load_dataset
from .errors import ThinkrankError as ThinkrankError
from .pretrained import load as load
from .rank.r2rank.model import R2Rank as R2Rank
from .rerank.eglr.model import EGLR as EGLR
from .retrieve.r2ec.model import R2ec as R2ec
from .stages.answers import Ranking as Ranking

__version__: str
