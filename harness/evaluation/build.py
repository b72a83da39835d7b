"""The evaluation sets of a configuration."""

from __future__ import annotations

from harness.data.tokenization import Tokenization
from harness.evaluation import kinds
from harness.evaluation.evaluation_set import EvaluationSet


def build_evaluation_sets(tokens: Tokenization) -> list[EvaluationSet]:
    """All sets, in the order of their kinds; each in two parts, where some is kept for the report.

    Raises InputError for data that cannot be used.
    """
    whole = [kind.build(name, config, tokens) for kind in kinds.KINDS for name, config in kind.configs(tokens.config).items()]
    share = tokens.config.report_share
    return [part for one in whole for part in one.parts(share)] if share else whole
