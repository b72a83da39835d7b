"""A steering direction on disk: a directory of two files, which anybody may have written.

vector.safetensors   block.N: float32 [H], the raw direction of block N
steering.json        what it is of, and how it is used
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.documents import DamagedError, read_json, typed
from harness.config.errors import InputError
from harness.config.schema import SteeringMethod, SteeringOperation, SteeringPositions, SteeringReading
from harness.config.steering_controls import SETTINGS, VECTORS
from harness.config.trust import linked_text
from harness.merging.safetensors_files import WeightFile
from harness.runs.files import replacing, write_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
NAME = re.compile(r"block\.(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True)
class VectorSettings:
    """What a direction is of, and how it is used."""

    model: str
    """The model's name, without its place."""
    model_fingerprint: str
    method: SteeringMethod
    reading: SteeringReading
    operation: SteeringOperation
    positions: SteeringPositions
    coefficients: dict[int, float]
    """By block: in units of its norm (add), or the share that is taken out (ablate)."""
    norms: list[float]
    """Of every block of the model, the mean norm of its output."""
    pairs: int
    """How many pairs it was found from."""
    pairs_fingerprint: str | None
    agreement: list[float]
    """By block, of the reading: mean cosine of the pairs' differences to their mean."""
    opposed: list[float]
    """By block, of the reading: share of pairs whose difference points against the mean of the others."""
    trained: bool = False
    """Whether the directions were trained since."""
    format: int = FORMAT


def write_vector(directory: Path, vectors: Mapping[int, Tensor], settings: VectorSettings) -> None:
    """Write both files into a directory. vectors: by block, [H]."""
    from safetensors.torch import save

    tensors = {f"block.{block}": vector.detach().float().cpu().contiguous().clone() for block, vector in sorted(vectors.items())}
    with replacing(directory / VECTORS) as stream:
        stream.write(save(tensors, {"format": "pt"}))
    write_json(directory / SETTINGS, asdict(settings))


def read_vector(directory: Path) -> tuple[dict[int, Tensor], VectorSettings]:
    """The directions by block, float32 [H], and what they are. Raises InputError for what is none, or damaged, or a link elsewhere."""
    import torch

    for name in (SETTINGS, VECTORS):
        if not (directory / name).is_file():
            raise InputError(f"adapter.vector={directory}: no {name} in it; valid: a directory that harness steer wrote")
    if linked := linked_text(directory):
        raise InputError(f"adapter.vector={directory}: {linked}")
    settings = typed(VectorSettings, read_json(directory / SETTINGS), directory / SETTINGS)
    if settings.format != FORMAT:
        raise InputError(f"{directory / SETTINGS}: format {settings.format}, of another harness; valid: {FORMAT}")
    vectors: dict[int, Tensor] = {}
    for name, tensor in WeightFile(directory / VECTORS).tensors().items():
        block = NAME.fullmatch(name)
        if block is None or tensor.dtype != "F32" or len(tensor.dimensions) != 1:
            raise DamagedError(directory / VECTORS, f"it holds {name}; valid: block.N of float32, one number a feature")
        vectors[int(block[1])] = torch.from_numpy(tensor.read(0, tensor.shape[0]).reshape(-1).copy())
    widths = {len(vector) for vector in vectors.values()}
    if len(widths) != 1 or 0 in widths or not all(bool(vector.isfinite().all()) for vector in vectors.values()):
        raise DamagedError(directory / VECTORS, "its directions are not finite numbers, of each block as many")
    blocks = len(settings.norms)
    wrong = [block for block in {*vectors, *settings.coefficients} if not 0 <= block < blocks or block not in vectors]
    numbers = torch.tensor([*settings.norms, *settings.coefficients.values()], dtype=torch.float32)
    is_whole = len(settings.agreement) == len(settings.opposed) == blocks and min(settings.norms, default=0.0) >= 0
    if wrong or not numbers.isfinite().all() or not is_whole:
        raise DamagedError(directory / SETTINGS, f"its directions and what it says of its {blocks} blocks do not go together")
    return vectors, settings


def vector_fingerprint(directory: Path) -> str:
    """A hash of both files."""
    import hashlib

    vectors, settings = read_vector(directory)
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for block, vector in sorted(vectors.items()):
        digest.update(f"{block}".encode() + vector.numpy().tobytes())
    return digest.hexdigest()
