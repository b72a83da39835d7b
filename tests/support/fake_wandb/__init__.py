"""A W&B backend in memory that the real client logs to, syncs to and reads from. Nothing but the standard library, 127.0.0.1 only.

    with FakeWandb() as backend:
        ...  # a process with backend.environment: online runs, `wandb sync`, wandb.Api
        backend.runs["fake-entity", "project", "run-id"].rows

graphql.py reads what the client asks, schema.py answers it, runs.py keeps the runs, server.py is the HTTP around them.
"""

from tests.support.fake_wandb.runs import StoredRun
from tests.support.fake_wandb.server import FakeWandb

__all__ = ["FakeWandb", "StoredRun"]
