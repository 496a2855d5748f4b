"""Copies of the metrics in Weights & Biases, TensorBoard or trackio, beside the run folder's own files.

None of them is needed: each is imported only when asked for, and one that fails during a run is dropped.
"""

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from geospot.errors import install_extra

SINKS = ("wandb", "tensorboard", "trackio")
PROJECT = "geospot"


class Sink(Protocol):
    """Where metrics go beside metrics.jsonl."""

    def log(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Take the metrics of one step."""

    def close(self) -> None:
        """Send what is left."""


def check_sinks(log_to: Sequence[str]) -> None:
    """Raise before any work if a sink is unknown (ValueError) or not installed (ImportError names the extra)."""
    if isinstance(log_to, str):
        raise ValueError(f'log_to = {log_to!r} is one word; give a list such as ("{log_to}",)')
    for name in log_to:
        if name not in SINKS:
            raise ValueError(f"log_to has {name!r}; allowed are {', '.join(SINKS)}")
        needed = ("tensorboard", "torch") if name == "tensorboard" else (name,)
        for module in needed:
            if importlib.util.find_spec(module) is None:
                extra = "train" if module == "torch" else name
                raise ImportError(
                    f"log_to has {name!r}, but the package {module!r} is not installed: "
                    f"install it with {install_extra(extra)}, or omit {name!r} from log_to"
                )


class Sinks:
    """All sinks of a run; a failing one is warned of once and dropped, and training goes on."""

    def __init__(self, log_to: Sequence[str], folder: Path, run_id: str, config: dict) -> None:
        """Open every sink; a failure here (no login, say) is raised, since no work is lost yet."""
        self._open: dict[str, Sink] = {}
        try:
            for name in log_to:
                self._open[name] = _OPENERS[name](folder, run_id, config)
        except BaseException:
            self.close()
            raise

    def log(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Hand the metrics of one step to every sink that still works."""
        for name, sink in list(self._open.items()):
            self._guard(name, lambda sink=sink: sink.log(step, metrics))

    def close(self) -> None:
        """Close every sink."""
        for name, sink in list(self._open.items()):
            self._guard(name, sink.close)
        self._open.clear()

    def _guard(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._open.pop(name, None)
            warnings.warn(
                f"{name} failed and gets no more metrics of this run ({type(error).__name__}: {error}); "
                "metrics.jsonl goes on",
                RuntimeWarning,
                stacklevel=4,
            )


class _Wandb:
    def __init__(self, folder: Path, run_id: str, config: dict) -> None:
        import wandb

        name = f"{folder.name}-{run_id}"
        self._run = wandb.init(project=PROJECT, id=run_id, name=name, dir=folder, config=config, resume="allow")
        # W&B's own step only grows; with ours as the x axis, steps run again after a resume are kept.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float | None]) -> None:
        self._run.log({"step": step, **_finite(metrics)})

    def close(self) -> None:
        self._run.finish()


class _TensorBoard:
    def __init__(self, folder: Path, run_id: str, config: dict) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._make = SummaryWriter
        self._folder = folder / "tensorboard"
        self._writer = None

    def log(self, step: int, metrics: Mapping[str, float | None]) -> None:
        if self._writer is None:  # only now is the step known from which a resumed run writes anew
            self._writer = self._make(str(self._folder), purge_step=step)
        for key, value in _finite(metrics).items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Trackio:
    def __init__(self, folder: Path, run_id: str, config: dict) -> None:
        import trackio

        self._run = trackio.init(project=PROJECT, name=f"{folder.name}-{run_id}", config=config, resume="allow")

    def log(self, step: int, metrics: Mapping[str, float | None]) -> None:
        self._run.log(dict(_finite(metrics)), step=step)

    def close(self) -> None:
        self._run.finish()


_OPENERS: dict[str, Callable[[Path, str, dict], Sink]] = {
    "wandb": _Wandb,
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
}


def _finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if value is not None}
