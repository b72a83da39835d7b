from __future__ import annotations

from pathlib import Path

import pytest

from harness.runs.record import StudyRecord, load_study
from tests.report.synthetic_study import write_study


@pytest.fixture
def study(tmp_path: Path) -> StudyRecord:
    """Sixteen trials in every state."""
    return load_study(write_study(tmp_path, states={5: "failed", 9: "pruned", 12: "pruned", 15: "waiting"}))
