"""The configuration of one run: every key, its type, its range and its default. Each default lives here and nowhere else.

YAML files under conf/ hold deltas on these classes. The string under a field documents it (docs/config.md is generated from them);
`Annotated` bounds are checked by `harness.config.validate`; what several keys must agree on is checked by `harness.config.checks`.
A field that only some kinds read says so with `only_for`, e.g. the decay fraction of a WSD schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Lt

from harness.config.schema.adapter import (
    AdapterConfig,
    SteeringMethod,
    SteeringOperation,
    SteeringPositions,
    SteeringReading,
    left_when_off,
)
from harness.config.schema.base import (
    Count,
    EvaluationSets,
    MultipleOfKeys,
    Name,
    NonNegative,
    OnlyFor,
    Paths,
    Positive,
    Section,
    Share,
    each,
)
from harness.config.schema.data import (
    TASK_FILES,
    ChoiceFormat,
    ContrastConfig,
    DataConfig,
    DataFormat,
    GenerationConfig,
    LmEvalConfig,
    MultipleChoiceConfig,
    PreferenceConfig,
    Rejected,
    SourceConfig,
    ValidationConfig,
    VerifierName,
    evaluation_sections,
)
from harness.config.schema.merge import IngredientConfig, MergeConfig, TensorGroupConfig
from harness.config.schema.model import ModelConfig, TokenizerConfig
from harness.config.schema.objective import (
    SMOOTHED,
    DivergenceName,
    ObjectiveConfig,
    ObjectiveName,
    PairLossName,
    PreferenceName,
    beta_of,
    gamma_of,
    needs_reference,
    nll_weight_of,
)
from harness.config.schema.optim import OptimConfig, OptimName
from harness.config.schema.sampling import SamplerName, SamplingConfig, SamplingName
from harness.config.schema.schedule import DecayShape, ScheduleConfig, ScheduleName
from harness.config.schema.tracking import TrackingConfig
from harness.config.schema.trainer import TrainerConfig

__all__ = [
    "SMOOTHED",
    "TASK_FILES",
    "AdapterConfig",
    "ChoiceFormat",
    "Config",
    "ContrastConfig",
    "Count",
    "DataConfig",
    "DataFormat",
    "DecayShape",
    "DivergenceName",
    "EvaluationSets",
    "GenerationConfig",
    "IngredientConfig",
    "LmEvalConfig",
    "MergeConfig",
    "ModelConfig",
    "MultipleChoiceConfig",
    "MultipleOfKeys",
    "Name",
    "NonNegative",
    "ObjectiveConfig",
    "ObjectiveName",
    "OnlyFor",
    "OptimConfig",
    "OptimName",
    "PairLossName",
    "Paths",
    "Positive",
    "PreferenceConfig",
    "PreferenceName",
    "Rejected",
    "SamplerName",
    "SamplingConfig",
    "SamplingName",
    "ScheduleConfig",
    "ScheduleName",
    "Section",
    "Share",
    "SourceConfig",
    "SteeringMethod",
    "SteeringOperation",
    "SteeringPositions",
    "SteeringReading",
    "TensorGroupConfig",
    "TokenizerConfig",
    "TrackingConfig",
    "TrainerConfig",
    "ValidationConfig",
    "VerifierName",
    "beta_of",
    "each",
    "evaluation_sections",
    "gamma_of",
    "left_when_off",
    "needs_reference",
    "nll_weight_of",
]


@dataclass(kw_only=True)
class Config(Section):
    """A run."""

    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    """Seed of everything random: initial weights, data order, dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
