"""The harness from Python: `import harness as h`. A call does what the verb of its name does on the command line."""

from harness.api.configs import load
from harness.api.data_sets import DataSet, data_set, synth
from harness.api.runs import Run, evaluate, resume, run, train
from harness.api.studies import Best, Study, Trial, study, sweep
from harness.work.kept_run import UnfinishedError

__all__ = [
    "Best",
    "DataSet",
    "Run",
    "Study",
    "Trial",
    "UnfinishedError",
    "data_set",
    "evaluate",
    "load",
    "resume",
    "run",
    "study",
    "sweep",
    "synth",
    "train",
]
