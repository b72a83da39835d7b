"""One run: a Lightning module over a model, and the callbacks that log, evaluate, checkpoint and stop it."""
