"""What every attempt does first, whether it trains or only evaluates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from harness.config.errors import InputError
from harness.config.merge_words import KEY, renamed_since
from harness.config.schema import Config, TrainerConfig
from harness.data.tokenization import Progress
from harness.runs.lifecycle import LiveResult
from harness.training import provenance, ranks
from harness.training.inputs import Inputs, load_inputs


def begin(config: Config, live: LiveResult, *, progress: Progress | None = None, related: Iterable[Config] = ()) -> Inputs:
    """Set the threads, note versions and hardware, and load the inputs. All ranks call it.

    Raises InputError for inputs that cannot be used, that changed since an earlier attempt, or that differ on another rank.
    """
    _set_threads(config.trainer)
    result = live.result
    if ranks.is_main():
        result.versions, result.git_commit, result.hardware = provenance.versions(), provenance.git_commit(), provenance.hardware()
        result.directory = result.directory or str(Path.cwd())
    # What trials read was verified when their study was prepared.
    inputs = load_inputs(config, progress=progress, related=related, verify=live.run.study is None)
    changed = [name for name, fingerprint in result.fingerprints.items() if inputs.fingerprints.get(name) != fingerprint]
    renamed = renamed_since(result.fingerprints, inputs.fingerprints)
    if renamed is not None and all(name == "model" or name.startswith(KEY) for name in changed):
        raise InputError(f"{live.run.path}: {renamed}; valid: a run that is begun anew, or to go on with that version")
    if changed:
        raise InputError(f"{live.run.path}: the {' and the '.join(changed)} changed since this run began; going on would mix two runs")
    if ranks.size() > 1:
        _refuse_other_files(inputs.fingerprints)
    result.fingerprints = inputs.fingerprints
    return inputs


def _set_threads(trainer: TrainerConfig) -> None:
    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    elif ranks.size() > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // trainer.devices))


def _refuse_other_files(fingerprints: dict[str, str]) -> None:
    """Raise InputError when a rank reads other files than rank 0 does: on a machine whose copy of them is an older one, say."""
    for rank, theirs in enumerate(ranks.gathered(fingerprints)):
        different = [name for name, fingerprint in fingerprints.items() if theirs[name] != fingerprint]
        if different:
            raise InputError(f"rank {rank} finds another {' and '.join(different)} than rank {ranks.rank()}; all must read the same files")
