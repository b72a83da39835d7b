"""For the warm server: what each attempt would else import, build and look up for itself.

Only what leaves no thread and holds no device: children are forked after this.
"""

import transformers.models.auto.modeling_auto  # noqa: F401

import harness.data.tokenization_progress
import harness.evaluation.loss_by_position
import harness.training.run_progress
import harness.training.step_progress
import harness.training.train
import harness.work.attempt  # noqa: F401
from harness.config.documents import validator
from harness.config.introspect import keys
from harness.config.schema import Config
from harness.runs.result import Result
from harness.runs.trial import Trial
from harness.training.provenance import versions

for section in (Config, Result, Trial):
    validator(section)
list(keys(Config))
versions()
