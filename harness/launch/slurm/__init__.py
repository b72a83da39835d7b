"""Slurm: its commands, the states of its jobs, and the batch scripts that we give it."""
