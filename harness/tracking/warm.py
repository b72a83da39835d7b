"""For the warm server: imports what the client else imports in each attempt when it opens a run (0.35 s).

Only imports: the client starts no thread and no process until a run is opened, so children can be forked after this.
"""

import wandb.sdk.launch.inputs.internal  # noqa: F401

import harness.tracking.wandb_logger  # noqa: F401
