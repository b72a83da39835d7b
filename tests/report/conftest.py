from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.runs.record import RunRecord, StudyRecord, load_study
from tests.report.synthetic_study import BATCH_TOKENS, write_study


def after_a_kill(study: StudyRecord) -> StudyRecord:
    """The study, as if every run had trained twenty of its steps twice."""

    def trained_again(run: RunRecord) -> RunRecord:
        tokens = run.result.tokens
        return replace(run, result=replace(run.result, tokens=replace(tokens, trained=tokens.trained + 20 * BATCH_TOKENS)))

    return replace(study, runs=[trained_again(run) for run in study.runs])


@pytest.fixture
def study(tmp_path: Path) -> StudyRecord:
    """Sixteen trials in every state."""
    return load_study(write_study(tmp_path, states={5: "failed", 9: "pruned", 12: "pruned", 15: "waiting"}))
