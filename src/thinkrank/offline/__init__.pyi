from .estimate import Estimate as Estimate
from .estimate import estimate_users as estimate_users
from .parts import Part as Part
from .parts import parts_of as parts_of
from .score import Scored as Scored
from .score import score_users as score_users
from .worker import Job as Job
from .worker import Worker as Worker
