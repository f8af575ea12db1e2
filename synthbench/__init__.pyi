# What the package offers, for editors and type checkers: it is imported when it is used.
from synthbench import errors as errors
from synthbench import metrics as metrics
from synthbench import registry as registry
from synthbench import testing as testing
from synthbench.cohorts.cohort import Cohort as Cohort
from synthbench.cohorts.reading import read_cohort as read_cohort
from synthbench.leaderboard.page import render_leaderboard as render_leaderboard
from synthbench.records.scorecard import Scorecard as Scorecard
from synthbench.sampling.sampling import sample as sample
from synthbench.scoring.inputs import CohortSet as CohortSet
from synthbench.scoring.scoring import score as score
from synthbench.scoring.scoring import score_cohorts as score_cohorts
from synthbench.scoring.settings import Context as Context
from synthbench.scoring.settings import ScoringSettings as ScoringSettings
from synthbench.training.training import train as train
from synthbench.volumes.grid import Space as Space

__version__: str
__all__: list[str]
