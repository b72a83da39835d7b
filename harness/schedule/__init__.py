"""Every per-step quantity of a run as a pure function of the step. No torch."""
