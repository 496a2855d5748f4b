"""A frozen vision tower in front of a projector in training: what the tower makes of a picture is kept, and only the
projector is run again."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from geospot.engine.local.parts import projectors, tower_layers

Inputs = Mapping[str, torch.Tensor]  # of the model's `get_image_features`, for one picture or several


@dataclass(frozen=True)
class Seen:
    """What projectors were given for a picture, call by call, and the encoder's other inputs, of its pixels the shape.

    Along the first axis pictures lie one behind the other, in inputs and in what projectors are given.
    """

    given: tuple[torch.Tensor, ...]
    others: dict[str, torch.Tensor]
    pixels: torch.Size


class FrozenTower:
    """Runs a model's projectors on what its vision tower made of pictures, without the tower's layers."""

    def __init__(self, model: Any):
        self.model = model
        self.projectors, self.layers = projectors(model), tower_layers(model)
        self.is_known = bool(self.projectors and self.layers)  # until a result says otherwise
        self._checked: set[bool] = set()  # for one picture and for several
        self._in_tuples = False  # whether the tower's layers return their output in a tuple

    @torch.no_grad()
    def look(self, inputs: Inputs, rows: Sequence[int]) -> list[Seen]:
        """Run the tower on pictures with `rows[i]` rows of pixels each."""
        calls: list[torch.Tensor] = []

        def note(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append(_hidden(args, kwargs))

        def look_at(_module: Any, _args: Any, output: Any) -> None:
            self._in_tuples = isinstance(output, tuple)

        with ExitStack() as hooks:
            for module in self.projectors:
                hooks.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
            hooks.callback(self.layers[0].register_forward_hook(look_at).remove)
            self.model.get_image_features(**inputs, return_dict=True)
        given = [call.split([len(call) * n // sum(rows) for n in rows]) for call in calls]
        others = {k: v.split([len(v) // len(rows)] * len(rows)) for k, v in inputs.items() if k != "pixel_values"}
        pixels = inputs["pixel_values"]
        return [
            Seen(
                tuple(parts[i].clone() for parts in given),
                {name: parts[i] for name, parts in others.items()},
                torch.Size((n, *pixels.shape[1:])),
            )
            for i, n in enumerate(rows)
        ]

    def features(self, seen: Sequence[Seen]) -> Any:
        """What `get_image_features` makes of these pictures, its gradient reaching the projectors."""
        given = [torch.cat(parts) for parts in zip(*(s.given for s in seen), strict=True)]
        inputs = {name: torch.cat([s.others[name] for s in seen]) for name in seen[0].others}
        shape = (sum(s.pixels[0] for s in seen), *seen[0].pixels[1:])
        blank = torch.zeros(shape, dtype=given[0].dtype, device=given[0].device)
        with self._passing(given):
            return self.model.get_image_features(pixel_values=blank, **inputs, return_dict=True)

    def agrees(self, inputs: Inputs, seen: Sequence[Seen]) -> bool:
        """Whether the features of pictures are those of the whole encoder: compared for the first one, and for the
        first ones that come together."""
        if self.is_known and (len(seen) > 1) not in self._checked:
            self._checked.add(len(seen) > 1)
            with torch.no_grad():
                want = self.model.get_image_features(**inputs, return_dict=True)
                try:
                    got = self.features(seen)
                except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):  # layers of another kind
                    self.is_known = False
                    return False
            self.is_known = _alike(got, want)
        return self.is_known

    @contextmanager
    def _passing(self, given: Sequence[torch.Tensor]) -> Generator[None]:
        """Within it the tower's layers hand on what they get, and projectors get these tensors, call by call."""
        rest = iter(given)

        def give(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            value = next(rest)
            return ((value, *args[1:]), kwargs) if args else (args, kwargs | {next(iter(kwargs)): value})

        with ExitStack() as undo:
            for module in self.projectors:
                undo.callback(module.register_forward_pre_hook(give, with_kwargs=True).remove)
            for layer in self.layers:
                layer.forward = partial(_hand_on, self._in_tuples)
                undo.callback(partial(delattr, layer, "forward"))
            yield


def _hand_on(in_tuple: bool, *args: Any, **kwargs: Any) -> Any:
    hidden = _hidden(args, kwargs)
    return (hidden,) if in_tuple else hidden


def _hidden(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """The first argument of a layer: its hidden states."""
    return args[0] if args else next(iter(kwargs.values()))


def _alike(got: Any, want: Any) -> bool:
    """Whether two results of `get_image_features` are equal to rounding."""

    def tensors(result: Any) -> list[torch.Tensor]:
        deep = getattr(result, "deepstack_features", None) or ()
        return [part for group in (result.pooler_output, *deep) for part in group]

    pairs = list(zip(tensors(got), tensors(want), strict=True))
    return all(a.shape == b.shape and bool((a.float() - b.float()).norm() <= 1e-3 * b.float().norm()) for a, b in pairs)
