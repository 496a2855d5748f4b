"""The run folder: what a training run writes, how it resumes exactly, and how others read it meanwhile."""

from geospot.errors import RunError
from geospot.files import atomic_folder, read_jsonl, write_json_atomic
from geospot.runs.config import MAY_DIFFER, plain_config
from geospot.runs.control import StopRequest
from geospot.runs.folder import (
    Checkpoint,
    RunFolder,
    is_remote,
    last_checkpoint,
    read_checkpoints,
    read_config,
    read_metrics,
)
from geospot.runs.rollouts import RolloutRow, query_rollouts

__all__ = [
    "MAY_DIFFER",
    "Checkpoint",
    "RolloutRow",
    "RunError",
    "RunFolder",
    "StopRequest",
    "atomic_folder",
    "is_remote",
    "last_checkpoint",
    "plain_config",
    "query_rollouts",
    "read_checkpoints",
    "read_config",
    "read_jsonl",
    "read_metrics",
    "write_json_atomic",
]
