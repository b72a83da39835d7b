"""optuna-dashboard on studies in both storages."""

from __future__ import annotations

