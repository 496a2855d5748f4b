"""`geospot data inspect SOURCE` looks through a data set; `geospot data pack SOURCE out=DIR` writes it as shards."""

import sys
from pathlib import Path
from typing import Any

from geospot.config import InspectConfig, PackConfig
from geospot.data.duplicates import overlap
from geospot.data.facts import has_pillow
from geospot.data.fields import Columns
from geospot.data.inspect import Inspection, inspect
from geospot.data.pack import Packed, pack, saved_revision
from geospot.data.records import Source
from geospot.data.sets import worker_count
from geospot.data.sources import open_source
from geospot.errors import install_extra
from geospot.progress import Progress
from geospot.report.inspection import as_text, contact_sheet, sections, world_text, write_dataset_page

SHEET = 60  # places of the contact sheet
WORLD_PLACES = 12_288  # as many as `sft` and `train` make by default
WORLD_MAP_FROM = 5  # places; fewer are better read than seen


def run_inspect(config: InspectConfig) -> None:
    """Print what the source holds; status 1 where `against` shares something with it, 2 where it holds no place."""
    columns = Columns.parse(config.columns)
    source = _open(config.data, columns)
    others = _open(config.against, columns, key="against") if config.against else None
    light = not has_pillow()
    if light:
        print(
            "pictures are only counted and hashed: to decode them install the extra train with "
            f"{install_extra('train')}",
            file=sys.stderr,
        )
    workers = 0 if light else worker_count(config)
    found = _pass(
        source, columns, "inspect", limit=config.limit, decode=config.decode and not light, workers=workers,
        sheet=SHEET if config.out and not light else 0, seed=config.seed,
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
        print(f"geospot data inspect: no usable place in {config.data}. {source.mend}".rstrip(), file=sys.stderr)
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
    source = _open(config.data, Columns.parse(config.columns), saved_revision(config.out))
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
    facts = packed.told
    lines = [f"{out}: packed before with these settings; nothing to do"] if packed.was_there else []
    for side, places in facts["places"].items():
        folder = Path(out, side) if len(facts["places"]) > 1 else Path(out)
        lines.append(
            f"{folder}: {places:,} places, {facts['pictures'][side]:,} pictures, shards: {facts['shards'][side]:,}"
        )
    lines.append(f"skipped: {packed.skipped}")
    for reason, examples in packed.skipped.examples.items():
        lines += [f"  {reason}: {example}" for example in examples[:3]]
    if facts.get("pictures again"):
        lines.append(
            f"places whose pictures were there before, on the same side, and were kept: {facts['pictures again']:,}"
        )
    if facts["keys renamed"]:
        lines.append(f"keys renamed or numbered because they were duplicate or empty: {facts['keys renamed']:,}")
    labels = facts["labels"]
    for level in ("country", "region", "city"):
        if labels.get(f"{level} filled") or labels.get(f"{level} disagree"):
            lines.append(
                f"{level}: {labels[f'{level} filled']:,} filled from the coordinates, "
                f"{labels[f'{level} disagree']:,} disagree with them and were kept"
            )
    if note := _share_note(facts):
        lines.append(note)
    split = len(facts["places"]) > 1 and facts["places"]["eval"]
    words = f"data={out}/train eval_data={out}/eval" if split else f"data={out}"
    return "\n".join([*lines, f"train on it: geospot sft {words}"])


def _share_note(facts: dict) -> str:
    """Why the share that is held out is another one than was asked for; "" where it is not, or nearly not."""
    settings, places = facts["settings"], facts["places"]
    asked, total = settings["eval_fraction"], sum(places.values())
    if not asked or not total or 0.5 * asked <= places["eval"] / total <= 1.5 * asked:
        return ""
    return (
        f"{100 * places['eval'] / total:.3g} % of the places are held out where eval_fraction={asked:g} asks for "
        f"{100 * asked:.3g} %: it is a share of the map's cells, {settings['cell_km']:g} km wide, and these places lie "
        "in few of them, or many in one. A smaller cell_km or another seed gives another share"
    )


def _open(spec: str, columns: Columns, revision: str | None = None, key: str = "data") -> Source:
    if spec == "bluemarble":
        from geospot.data.world.bluemarble import ensure_shards

        spec = str(ensure_shards(n_train=WORLD_PLACES)["train"])
    return open_source(spec, columns, revision, key)
