"""`geospot data inspect SOURCE` looks through a data set; `geospot data pack SOURCE out=DIR` writes it as shards."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import chz

from geospot.config import SOURCES, SourceConfig, fail, not_negative, positive, run_command
from geospot.data.duplicates import overlap
from geospot.data.fields import Columns
from geospot.data.inspect import Inspection, inspect
from geospot.data.pack import Packed, PackSettings, pack, saved_revision
from geospot.data.records import Source
from geospot.data.sets import worker_count
from geospot.data.sources import open_source
from geospot.progress import Progress
from geospot.report.inspection import as_text, contact_sheet, sections, world_text, write_dataset_page

SHEET = 60  # places of the contact sheet
WORLD_PLACES = 12_288  # as many as `sft` and `train` make by themselves
WORLD_MAP_FROM = 5  # places; fewer are better read than seen
DATA = chz.field(default=None, doc=f"also as a plain word: bluemarble, or {SOURCES}")


@chz.chz
class InspectConfig:
    """Look through a data set: geospot data inspect SOURCE key=value ..."""

    data: str | None = DATA
    columns: str = chz.field(
        default="", doc="keys of the metadata that are not found by themselves: lat=KEY,lon=KEY,image=KEY,..."
    )
    out: str | None = chz.field(default=None, doc="page to write: FILE.html, with map and contact sheet")
    against: str | None = chz.field(
        default=None, doc="another source: is anything of it in this one? Leaves with status 1 where there is"
    )
    near_km: float = chz.field(default=1.0, doc="places of `against` nearer than this are a leak")
    limit: int = chz.field(default=0, doc="stop after so many places, of shards in a seeded order; 0: all")
    decode: bool = chz.field(default=True, doc="read pictures to their end, which finds damaged ones; false: headers")
    seed: int = chz.field(default=0, doc="of the contact sheet and of `limit`")
    data_workers: int = chz.field(default=-1, doc="processes that decode pictures; -1: all cores but one")

    @chz.validate
    def _check(self):
        Columns.parse(self.columns)
        not_negative(self, "limit", "seed")
        positive(self, "near_km")
        if self.data_workers < -1:
            raise ValueError(f"data_workers={self.data_workers}: must be -1 (choose) or above")
        if self.out is not None and not self.out.endswith((".html", ".htm")):
            raise ValueError(f"out={self.out!r}: must end in .html")


@chz.chz
class PackConfig(SourceConfig):
    """Write a data set as WebDataset shards: geospot data pack SOURCE out=DIR key=value ..."""

    data: str | None = DATA
    out: str | None = chz.field(default=None, doc="folder to write: new, empty, or one where this command was stopped")
    shard_samples: int = chz.field(default=1000, doc="places a shard")
    max_pixels: int | None = chz.field(
        default=None, doc="larger pictures are scaled down to this many pixels; none: they stay as they are"
    )
    fill_labels: bool = chz.field(default=True, doc="country, region and city from the coordinates where they miss")
    shuffle: bool = chz.field(default=True, doc="seeded order; false: the source's own")
    shuffle_buffer: int = chz.field(default=1000, doc="places among which the next is drawn; held in memory, encoded")
    seed: int = chz.field(default=0, doc="of the order, the choice of views and of held-out cells")
    eval_fraction: float = chz.field(default=0.0, doc="of the cells of the map, written to DIR/eval; 0: no such split")
    cell_km: float = chz.field(default=100.0, doc="side of a cell, for eval_fraction")
    holdout_km: float = chz.field(default=1.0, doc="between any place of DIR/eval and any of DIR/train")

    @chz.validate
    def _check_pack(self):
        positive(self, "shard_samples", "shuffle_buffer", "cell_km")
        not_negative(self, "seed", "eval_fraction", "holdout_km")
        if self.max_pixels is not None:
            positive(self, "max_pixels")
        _ = self.settings.split  # refuses what does not fit together

    @property
    def settings(self) -> PackSettings:
        """What decides the bytes."""
        return PackSettings(**{field.name: getattr(self, field.name) for field in fields(PackSettings)})


def run_inspect(config: InspectConfig) -> None:
    """Print what the source holds; status 1 where `against` shares something with it, 2 where it holds no place."""
    spec = _given(config.data, "inspect")
    columns = Columns.parse(config.columns)
    source = _open(spec, columns)
    others = _open(config.against, columns, key="against") if config.against else None
    workers = worker_count(config)
    sheet = SHEET if config.out else 0
    found = _pass(
        source, columns, "inspect", limit=config.limit,
        decode=config.decode, workers=workers, sheet=sheet, seed=config.seed,
    )  # fmt: skip
    against = None
    if others is not None and found.stopped != "Ctrl-C":
        theirs = _pass(others, columns, "inspect against", decode=False, workers=workers)
        against = theirs, overlap(found, theirs, config.near_km)
    parts = sections(found, against)
    print(as_text(parts))
    if found.places >= WORLD_MAP_FROM:
        blocks = (sys.stdout.encoding or "").lower().startswith("utf")
        print(f"\n{world_text(found.lat, found.lon, blocks)}")
    if config.out:
        print(f"\npage: {write_dataset_page(config.out, found, parts, contact_sheet(found))}")
    if found.stopped == "Ctrl-C":
        raise SystemExit(130)
    if found.stopped and found.stopped != f"limit={config.limit}":
        raise SystemExit(2)
    if not found.places:
        print(f"geospot data inspect: no usable place in {spec}. {source.mend}".rstrip(), file=sys.stderr)
        raise SystemExit(2)
    if against and against[1].leaks:
        raise SystemExit(1)


def _pass(source: Source, columns: Columns, title: str, limit: int = 0, **how: Any) -> Inspection:
    """Read a source with a bar over its places if their number is known, else over its parts."""
    n_parts = len(source.parts)
    total = limit or (n_parts if n_parts > 1 else None)
    with Progress(title if limit or n_parts == 1 else f"{title}, shards", total=total) as bar:

        def advance(found: Inspection) -> None:
            done = found.parts_read if total and not limit else found.places
            step = done - bar.done
            if step or not (found.places + found.skipped.total()) % 64:
                bar.advance(step, places=found.places, skipped=found.skipped.total())

        found = inspect(source, columns=columns, limit=limit, advance=advance, **how)
        bar.advance((found.parts_read if total and not limit else found.places) - bar.done, places=found.places)
        return found


def run_pack(config: PackConfig) -> None:
    """Write the shards and say what they hold."""
    spec = _given(config.data, "pack")
    if not config.out:
        fail("data pack", "no folder given: geospot data pack SOURCE out=DIR")
    source = _open(spec, Columns.parse(config.columns), saved_revision(config.out))
    with Progress("pack, shards read", total=len(source.parts)) as bar:
        started = False

        def advance(parts: int, places: int, skipped: int) -> None:
            nonlocal started
            if not started:  # what an earlier call did is no work of this one
                bar.done, started = parts, True
            bar.advance(parts - bar.done, places=places, skipped=skipped)

        packed = pack(source, config.out, config.settings, workers=worker_count(config), advance=advance)
        bar.done = len(source.parts)
    print(_packed_text(config.out, packed))


def _packed_text(out: str, packed: Packed) -> str:
    told = packed.told
    lines = [f"{out}: packed before with these settings; nothing to do"] if packed.was_there else []
    for side, places in told["places"].items():
        folder = Path(out, side) if len(told["places"]) > 1 else Path(out)
        lines.append(
            f"{folder}: {places:,} places, {told['pictures'][side]:,} pictures, shards: {told['shards'][side]:,}"
        )
    lines.append(f"skipped: {packed.skipped}")
    for reason, examples in packed.skipped.examples.items():
        lines += [f"  {reason}: {example}" for example in examples[:3]]
    if told.get("pictures again"):
        lines.append(
            f"places whose pictures were there before, on the same side, and were kept: {told['pictures again']:,}"
        )
    if told["keys renamed"]:
        lines.append(f"keys given a number or a name, since they came twice or were empty: {told['keys renamed']:,}")
    labels = told["labels"]
    for level in ("country", "region", "city"):
        if labels.get(f"{level} filled") or labels.get(f"{level} disagree"):
            lines.append(
                f"{level}: {labels[f'{level} filled']:,} filled from the coordinates, "
                f"{labels[f'{level} disagree']:,} disagree with them and were kept"
            )
    if note := _share_note(told):
        lines.append(note)
    split = len(told["places"]) > 1 and told["places"]["eval"]
    words = f"data={out}/train eval_data={out}/eval" if split else f"data={out}"
    return "\n".join([*lines, f"train on it: geospot sft {words}"])


def _share_note(told: dict) -> str:
    """Why the share that is held out is another one than was asked for; "" where it is not, or nearly not."""
    settings, places = told["settings"], told["places"]
    asked, total = settings["eval_fraction"], sum(places.values())
    if not asked or not total or 0.5 * asked <= places["eval"] / total <= 1.5 * asked:
        return ""
    return (
        f"{100 * places['eval'] / total:.3g} % of the places are held out where eval_fraction={asked:g} asks for "
        f"{100 * asked:.3g} %: it is a share of the map's cells, {settings['cell_km']:g} km wide, and these places lie "
        "in few of them, or many in one. A smaller cell_km or another seed gives another share"
    )


def _given(spec: str | None, action: str) -> str:
    return spec or _no_source(action)


def _no_source(action: str) -> NoReturn:
    example = ACTIONS[action][2].removeprefix("geospot data ")
    fail(f"data {action}", f"no source given; an example: geospot data {example}")


def _open(spec: str, columns: Columns, revision: str | None = None, key: str = "data") -> Source:
    if spec == "bluemarble":
        from geospot.data.world.bluemarble import ensure_shards

        spec = str(ensure_shards(n_train=WORLD_PLACES)["train"])
    return open_source(spec, columns, revision, key)


# word -> (configuration, what runs it, an example, what it does)
ACTIONS: dict[str, tuple[type, Callable, str, str]] = {
    "inspect": (
        InspectConfig,
        run_inspect,
        "geospot data inspect photos/ out=photos.html",
        "counts, sizes, countries, a map, bad samples, duplicates, leaks",
    ),
    "pack": (
        PackConfig,
        run_pack,
        "geospot data pack photos.csv out=shards/ max_pixels=262144 eval_fraction=0.02",
        "any source as WebDataset shards, in parallel; started again, it goes on",
    ),
}


def usage() -> str:
    """What `geospot data` prints."""
    lines = ["Usage: geospot data inspect|pack SOURCE key=value ...", ""]
    for word, (*_, example, what) in ACTIONS.items():
        lines += [f"  {word:<8} {what}", f"  {'':<8} {example}", ""]
    lines.append(
        "`geospot data inspect --help` and `geospot data pack --help` list their keys, `geospot data --help` all."
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: the word behind `inspect` or `pack` that has no '=' is the source."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        print(usage())
        return
    if words[0] in ("-h", "--help", "help"):
        print(usage())
        for word, (config_class, run, *_) in ACTIONS.items():
            print()
            with suppress(SystemExit):
                run_command(f"data {word}", config_class, run, ["--help"])
        raise SystemExit(0)
    action, *rest = words
    if action not in ACTIONS:
        fail("data", f"no command {action!r}; there are {', '.join(ACTIONS)}. See `geospot data --help`")
    config_class, run, *_ = ACTIONS[action]
    plain = [word for word in rest if not word.startswith("-") and word != "help" and _is_source(word)]
    if len(plain) > 1:
        fail(f"data {action}", f"one source at a time, not {' and '.join(map(repr, plain))}")
    rest = [word for word in rest if word not in plain]
    run_command(
        f"data {action}",
        config_class,
        lambda config: run(chz.replace(config, data=plain[0]) if plain else config),
        rest,
    )


def _is_source(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return not equals or not name.isidentifier()
