"""Synthetic data: from the rows that teachers wrote to a data set. No torch; what needs a model is in `harness.work`."""
