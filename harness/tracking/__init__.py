"""W&B's view of a run. Imported only when tracking=wandb."""
