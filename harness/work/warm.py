"""For the warm server: what each attempt would else import, build and look up for itself.

Only what leaves no thread and holds no device: children are forked after this.
"""

from pathlib import Path

import harness.data.tokenization_progress
import harness.evaluation.loss_by_position
import harness.training.run_progress
import harness.training.step_progress
import harness.training.train
import harness.work.attempt  # noqa: F401
from harness.config.documents import typed
from harness.config.introspect import keys
from harness.config.schema import Config
from harness.config.validate import to_plain, to_section
from harness.runs.result import Result
from harness.runs.trial import Trial
from harness.training.provenance import versions

to_section(Config, to_plain(Config()))
typed(Result, {}, Path("result.json"))
typed(Trial, {"number": 0, "params": None, "tokens": 0}, Path("trial.json"))
list(keys(Config))
versions()
