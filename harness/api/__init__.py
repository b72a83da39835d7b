"""The harness from Python: `import harness as h`, which has these names. A call does what the verb of its name does on the command line."""

from harness.api.configs import load as load
from harness.api.data_sets import DataSet as DataSet
from harness.api.data_sets import data_set as data_set
from harness.api.data_sets import synth as synth
from harness.api.runs import Run as Run
from harness.api.runs import evaluate as evaluate
from harness.api.runs import resume as resume
from harness.api.runs import run as run
from harness.api.runs import train as train
from harness.api.studies import Best as Best
from harness.api.studies import Study as Study
from harness.api.studies import Trial as Trial
from harness.api.studies import study as study
from harness.api.studies import sweep as sweep
from harness.work.kept_run import UnfinishedError as UnfinishedError
