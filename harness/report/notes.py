"""Sentences that the table and the page share."""

from __future__ import annotations

from harness.report.comparison import Comparison
from harness.report.seed_noise import SeedNoise
from harness.report.text import count_text, metric_text
from harness.runs.result import TeacherLedger


def noise_note(noise: SeedNoise) -> str:
    return (
        f"Seed noise: sd {metric_text(noise.sd)}; single runs that differ by less than {metric_text(noise.least_difference)} cannot be "
        f"told apart (from {noise.source})."
    )


def sharing_note(comparison: Comparison) -> str:
    """How many tokens shared trunks saved."""
    trained = sum(run.result.tokens.trained for run in comparison.runs)
    whole = trained + comparison.saved
    return (
        f"Trunks: {count_text(trained)} tokens trained, {count_text(comparison.saved)} shared; every run from scratch would have trained "
        f"{count_text(whole)}, {whole / max(1, trained):.2f} times as many."
    )


def teachers_note(ledger: TeacherLedger) -> str:
    """What teachers cost, and what it saved that runs share what they wrote."""
    pools = f"{ledger.pools} pool{'' if ledger.pools == 1 else 's'} of texts"
    saved = f"; without sharing it would have been {count_text(ledger.spent + ledger.saved)}" if ledger.saved else ""
    return f"Teachers: {count_text(ledger.spent)} tokens for {pools}, each counted once{saved}."
