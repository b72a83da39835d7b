"""The study: space, sampler, budget, claims, and the worker that pulls trials. No torch."""
