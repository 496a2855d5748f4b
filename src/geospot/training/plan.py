"""A study's plan: which runs there are, by start, variant and seed. Read and checked whole before any of them starts.

seeds = [0, 1, 2]
baseline = "fixed"                      # the variant that the others are compared with
pairs = [["mine", "tightening"]]        # further comparisons: the first less the second

[shared]                                # keys of sft and train, for every run
train_places = 2048
[train]                                 # keys of train, for every variant
max_steps = 40
[sft]                                   # keys of sft, for every start that is trained
max_steps = 60
[starts]
far = {max_steps = 20}                  # keys of sft ...
good = "runs/demo/sft"                  # ... or weights that are there: a run folder or a checkpoint
[variants]
fixed = {coord_tau_start = 50.0, coord_tau = 50.0}
tightening = {coord_tau_start = 500.0, coord_tau = 50.0}
mine = {runs = ["runs/mine-*"]}         # or runs that somebody has made: then without starts
"""

import glob
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import chz

from geospot.cli import ALIASES, read_value
from geospot.config import LoopConfig, SftConfig, TrainConfig
from geospot.config.settings import as_text, known_values, read_file
from geospot.errors import RunError, did_you_mean, listed, mean_path
from geospot.runs.checkpoints import find_checkpoint, read_checkpoints
from geospot.runs.config import MAY_DIFFER
from geospot.runs.folder import check_config, read_config
from geospot.runs.overview import is_run
from geospot.training.resume import has_begun

AnyConfig = TypeVar("AnyConfig", bound=LoopConfig)

KEYS = ("seeds", "baseline", "pairs", "held_out", "places", "shared", "sft", "train", "starts", "variants")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
# What the study itself decides of each run, and what says it.
_OWN = {"log_path": "the folder out", "resume": "the study, which always goes on", "branch_from": "starts",
        "threads": "the key threads of geospot study"}  # fmt: skip
_OWN_OF_VARIANTS = _OWN | {"checkpoint": "starts", "seed": "seeds"}
BY_HAND = "runs"  # the start of runs that somebody has made


@dataclass(frozen=True)
class PlannedRun:
    """One run: a start's SFT (variant None) or a variant from a start. `config` is None for one made by hand."""

    start: str
    variant: str | None
    seed: int
    path: Path
    config: LoopConfig | None

    @property
    def command(self) -> str:
        """The command that makes it."""
        return "sft" if self.variant is None else "train"

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.start}/sft" if self.variant is None else f"{self.start}/{self.variant}/seed-{self.seed}"

    @property
    def is_finished(self) -> bool:
        """Whether its last checkpoint is a final one, of all the steps that are planned, or of a run that ended early.

        Its weights may be gone since.
        """
        kept = read_checkpoints(self.path) if (self.path / "checkpoints.jsonl").is_file() else []
        if not kept or not kept[-1].final:
            return False
        ended = kept[-1].loop_state.get("loop", {}).get("ended", False)
        return self.config is None or ended or kept[-1].step >= self.config.max_steps


@dataclass(frozen=True)
class Plan:
    """A plan that was read. `starts` are the SFT runs to make, `runs` the variants' in the order of their start."""

    document: dict[str, Any]
    baseline: str
    variants: tuple[str, ...]
    starts: tuple[str, ...]
    sft_runs: list[PlannedRun] = field(default_factory=list)
    runs: list[PlannedRun] = field(default_factory=list)
    held_out: str | None = None
    places: tuple[int, int] | None = None
    pairs: tuple[tuple[str, str], ...] = ()  # compared beside those with the baseline: the first less the second


def read_plan(path: str, out: Path, threads: int) -> Plan:
    """The plan in a file, for runs below `out` of `threads` threads each; RunError names what is wrong and where."""
    try:
        document = read_file("plan", path)
        if not isinstance(document, dict):
            raise ValueError(f"plan={path}: must hold keys: {', '.join(KEYS)}")
        return _plan(path, document, out, threads)
    except ValueError as error:
        raise RunError(str(error)) from None


def _plan(path: str, document: dict[str, Any], out: Path, threads: int) -> Plan:
    for key in document:
        if key not in KEYS:
            raise ValueError(f"plan={path}: there is no key {key}{did_you_mean(str(key), KEYS)}")
    variants = _tables(path, document, "variants")
    by_hand = {name: keys for name, keys in variants.items() if "runs" in keys}
    starts = document.get("starts", {})
    _check_names(path, "variants", variants)
    if by_hand and (len(by_hand) < len(variants) or starts):
        raise ValueError(
            f"plan={path}: variants.{next(iter(by_hand))}.runs: where one variant lists runs that are there, every "
            "variant does, and there are no starts"
        )
    baseline = document.get("baseline")
    if baseline not in variants:
        raise ValueError(
            f"plan={path}: baseline={as_text(baseline) if baseline is not None else 'none'}: must be {listed(variants)}"
            f"{did_you_mean(str(baseline), variants)}"
        )
    plan = Plan(
        document=document,
        baseline=baseline,
        variants=tuple(variants),
        starts=tuple(starts) or (BY_HAND,),
        held_out=document.get("held_out"),
        places=_places(path, document.get("places")),
        pairs=_pairs(path, document.get("pairs", []), variants, baseline),
    )
    if by_hand:
        plan.runs.extend(_made_by_hand(path, by_hand))
    else:
        _planned(path, plan, variants, out, threads)
    return plan


def _tables(path: str, document: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A table of tables that must be there."""
    tables = document.get(key)
    if not isinstance(tables, dict) or not tables:
        raise ValueError(f"plan={path}: {key}: must hold one table of keys by name; see docs/study.md")
    for name, keys in tables.items():
        if not isinstance(keys, dict):
            raise ValueError(f"plan={path}: {key}.{name}={as_text(keys)}: must be a table of keys, {{}} for none")
    return tables


def _check_names(path: str, key: str, names: Collection[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(str(name)) or name == "sft":
            raise ValueError(
                f"plan={path}: {key}.{name}: the name becomes that of a folder: letters, digits, _ . + and -, "
                "beginning with a letter or a digit, and not sft"
            )


def _seeds(path: str, seeds: object) -> list[int]:
    good = isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not isinstance(seeds, list) or not good or len(set(seeds)) < len(seeds):
        shown = "none" if seeds is None else as_text(seeds)
        raise ValueError(f"plan={path}: seeds={shown}: must be a list of different whole numbers, such as [0, 1, 2]")
    return seeds


def _places(path: str, places: object) -> tuple[int, int] | None:
    if places is None:
        return None
    good = isinstance(places, list) and len(places) == 2 and all(type(n) is int for n in places)
    if not isinstance(places, list) or not good or not 0 <= places[0] < places[1]:
        raise ValueError(
            f"plan={path}: places={as_text(places)}: must be two whole numbers, such as [512, 1024]: from which "
            "held-out place, counted from 0, to before which"
        )
    return places[0], places[1]


def _pairs(path: str, pairs: object, variants: Collection[str], baseline: str) -> tuple[tuple[str, str], ...]:
    """Comparisons of the plan's own; each is there once."""
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError(
            f"plan={path}: pairs={as_text(pairs)}: must be a list such as [[first, second]]: first less second"
        )
    found: list[tuple[str, str]] = []
    for pair in pairs:
        where, (first, second) = f"plan={path}: pairs: {as_text(pair)}", map(str, pair)
        for name in (first, second):
            if name not in variants:
                raise ValueError(f"{where}: {name} must be {listed(variants)}{did_you_mean(name, variants)}")
        if first == second:
            raise ValueError(f"{where}: a variant does not differ from itself")
        if second == baseline or (first, second) in found:
            raise ValueError(f"{where}: this comparison is made already")
        found.append((first, second))
    return tuple(found)


def _planned(path: str, plan: Plan, variants: Mapping[str, Mapping[str, Any]], out: Path, threads: int) -> None:
    """Fill in the runs of a plan with starts."""
    seeds, document = _seeds(path, plan.document.get("seeds")), plan.document
    starts = document.get("starts")
    if not isinstance(starts, dict) or not starts:
        raise ValueError(f"plan={path}: starts: must name one or more: keys of sft, or a run folder or checkpoint")
    _check_names(path, "starts", starts)
    shared = _values(path, "shared", document.get("shared", {}), LoopConfig, _OWN_OF_VARIANTS)
    of_sft = _values(path, "sft", document.get("sft", {}), SftConfig, _OWN)
    of_train = _values(path, "train", document.get("train", {}), TrainConfig, _OWN_OF_VARIANTS)
    own = {name: _values(path, f"variants.{name}", keys, TrainConfig, _OWN_OF_VARIANTS) for name, keys in
           variants.items()}  # fmt: skip
    weights = {}
    for start, what in starts.items():
        weights[start] = _weights(path, start, what)
        if weights[start] is None:
            values = shared | of_sft | _values(path, f"starts.{start}", what, SftConfig, _OWN)
            values |= {"log_path": str(out / start / "sft"), "threads": threads}
            config = _made(path, f"starts.{start}", SftConfig, values)
            plan.sft_runs.append(PlannedRun(start, None, config.seed, out / start / "sft", config))
    for seed in seeds:  # a study that is not finished has as many runs of each variant
        for start in starts:
            for name in variants:
                folder = out / start / name / f"seed-{seed}"
                checkpoint = weights[start] or str(out / start / "sft")
                if weights[start] is None and has_begun(folder):
                    checkpoint = read_config(folder).get("checkpoint", checkpoint)  # the study may have been moved
                values = shared | of_train | own[name] | {"seed": seed, "checkpoint": checkpoint}
                values |= {"log_path": str(folder), "threads": threads}
                config = _made(path, f"variants.{name}", TrainConfig, values)
                plan.runs.append(PlannedRun(start, name, seed, folder, config))


def _weights(path: str, start: str, what: object) -> str | None:
    """The run folder or checkpoint that a start names; None where it is a table of keys of sft."""
    if isinstance(what, dict):
        return None
    if not isinstance(what, str):
        raise ValueError(f"plan={path}: starts.{start}: must be a table of keys of sft, or a run folder or checkpoint")
    if "://" not in what and not Path(what).expanduser().exists():
        raise ValueError(f"plan={path}: starts.{start}={what}: no such run folder or checkpoint{mean_path(what)}")
    find_checkpoint(what)
    return what


def _values(path: str, where: str, keys: object, config_class: type, own: Mapping[str, str]) -> dict[str, Any]:
    """A table of a plan as values of a configuration's keys."""
    if not isinstance(keys, dict):
        raise ValueError(f"plan={path}: {where}: must be a table of keys")
    fields = chz.chz_fields(config_class)
    found = known_values(f"plan={path}: {where}", keys, fields, ALIASES)
    for key in found:
        if key in own:
            raise ValueError(f"plan={path}: {where}: {key} is not for a plan: {own[key]} says it")
    try:
        return {key: read_value(key, as_text(value), fields[key].final_type) for key, value in found.items()}
    except ValueError as error:
        raise ValueError(f"plan={path}: {where}: {error}") from None


def _made(path: str, where: str, config_class: type[AnyConfig], values: dict[str, Any]) -> AnyConfig:
    try:
        return config_class(**values)
    except ValueError as error:
        raise ValueError(f"plan={path}: {where}: {error}") from None


def _made_by_hand(path: str, variants: Mapping[str, Mapping[str, Any]]) -> list[PlannedRun]:
    """The runs that variants list by their folders; patterns such as runs/a-* stand for all that match."""
    found = []
    for name, keys in variants.items():
        where = f"plan={path}: variants.{name}"
        if len(keys) > 1:
            raise ValueError(f"{where}: has runs, and no other key: the runs' own folders say the rest")
        words = [keys["runs"]] if isinstance(keys["runs"], str) else keys["runs"]
        if not isinstance(words, list) or not words:
            raise ValueError(f"{where}.runs: must be a list of run folders")
        seeds: dict[int, Path] = {}
        for folder in [Path(match) for word in words for match in _matches(where, str(word))]:
            seed = int(read_config(folder).get("seed") or 0)
            if seed in seeds:
                raise ValueError(f"{where}.runs: {seeds[seed]} and {folder} have the same seed={seed}; one run a seed")
            seeds[seed] = folder
            found.append(PlannedRun(BY_HAND, name, seed, folder, None))
    return found


def _matches(where: str, word: str) -> list[str]:
    folders = [f for f in sorted(glob.glob(str(Path(word).expanduser()))) if is_run(Path(f))]
    if not folders:
        raise ValueError(f"{where}.runs={word}: no such run folder{mean_path(word)}")
    return folders


def check_runs(plan: Plan) -> None:
    """RunError where a folder that is there holds a run with another configuration than the plan says."""
    for run in [*plan.sft_runs, *plan.runs]:
        if run.config is not None and (run.path / "config.json").is_file():
            open_keys = MAY_DIFFER | {"engine"} if run.config.engine == "auto" else MAY_DIFFER  # the run settles it
            check_config(run.path, {"command": run.command, **chz.asdict(run.config)}, open_keys)
