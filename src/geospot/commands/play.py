"""`geospot play`: the game on a page, and a tab where the model guesses photos of one's own."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import chz

from geospot.asking.subject import Subject, run_setting
from geospot.commands.watch import need_pages
from geospot.config import DEMO_RUN, GuesserConfig, PlayConfig
from geospot.data.samples import Sample, SkipCounter
from geospot.data.sets import held_out_samples, held_out_sets
from geospot.data.world.mosaic import WorldConfig
from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.errors import DataError
from geospot.models.loading import is_tiny
from geospot.net.loopback import served_names
from geospot.runs.rollouts import query_rollouts

if TYPE_CHECKING:
    from geospot.report.live.opponent import Opponent

_LAST = "SELECT sample_key, distance_km FROM rollouts WHERE split = ?1 AND step = (SELECT MAX(step) FROM rollouts "
_LAST += "WHERE split = ?1)"


def run(config: PlayConfig) -> None:
    """Serve the game until Ctrl-C."""
    need_pages("play")
    from geospot.report.live.deck import Deck, code_of_seed
    from geospot.report.live.playing import Play
    from geospot.report.live.serving import serve_site, site_key
    from geospot.report.live.site import make_site
    from geospot.report.live.uploads import Photos

    config = chz.replace(config, checkpoint=opponent_of(config))
    name, samples = places(config)
    deck = Deck.of(name, samples, config.scale, known_errors(config, name))
    tiles = None if config.tiles is None else {"url": config.tiles, "attribution": config.tiles_by}
    key, opponent = site_key(config.host), opened(config)
    code = None if config.seed is None else code_of_seed(config.seed)
    play = Play(deck, opponent, code=code, seconds=config.seconds, tiles=tiles)
    images = "" if config.tiles is None else "/".join(config.tiles.split("/")[:3])
    remark, sent_to = ("", "") if opponent is None else about_photos(config)
    photos = Photos(opponent, config.max_pixels, remark=remark, sent_to=sent_to, tiles=tiles)
    app = make_site([*play.routes(), *photos.routes()], key=key, hosts=served_names(key), images=images)
    against = f"against {opponent.title}" if opponent else "alone"
    say = f"{len(deck.samples):,} places of {name}, {against}, at"
    try:
        serve_site(app, config.host, config.port, key, say=say, show=config.open)
    finally:
        if opponent is not None:
            opponent.close()


def opponent_of(config: PlayConfig) -> str | None:
    """The checkpoint to play against: as asked, or the demo's where there is one; None without any."""
    if config.checkpoint != "auto":
        return config.checkpoint
    if config.model_name or not (Path(DEMO_RUN) / "checkpoints.jsonl").is_file():
        return None
    return DEMO_RUN


def opened(config: PlayConfig) -> "Opponent | None":
    """The model in a thread of its own; None where there is none to play against."""
    if config.checkpoint is None and config.model_name is None:
        print(f"no model to play against: `geospot demo` makes one in {DEMO_RUN}, or name it with checkpoint=")
        return None
    from geospot.asking.guesser import Guesser
    from geospot.report.live.opponent import Opponent

    keys = {f: getattr(config, f) for f in chz.chz_fields(GuesserConfig) if f not in ("model_name", "checkpoint")}
    subject = Subject.of(config)
    return Opponent(
        lambda: Guesser(config.model_name, checkpoint=config.checkpoint, **keys), subject.title, config.samples
    )


def about_photos(config: PlayConfig) -> tuple[str, str]:
    """What to say of a model that is given street photos, and who is sent them; each "" for nothing and nobody."""
    subject = Subject.of(config)
    remark = (
        "It has only seen satellite pictures: on other photos it guesses noise." if is_tiny(subject.model_name) else ""
    )
    service = config.base_url or "the hosted Tinker service" if config.engine == "tinker" or config.base_url else ""
    return remark, subject.api.where if subject.api is not None else service


def places(config: PlayConfig) -> tuple[str, list[Sample]]:
    """The name of the set that is played on, and its places."""
    zoom_km = config.zoom_km or run_setting(config.checkpoint, "zoom_km", WorldConfig.width_km)
    sets = held_out_sets(config, zoom_km)
    name = config.set or next(iter(sets))
    if name not in sets:
        raise DataError(f"set={name}: this data has {', '.join(sets)}")
    skipped = SkipCounter()
    samples = list(held_out_samples(config, sets[name], skipped))
    if skipped:
        print(f"samples skipped: {skipped}")
    return name, samples


def known_errors(config: PlayConfig, name: str) -> dict[str, float]:
    """By the key of a place what the model was off by, km, in its run's last evaluation, if that was on this set."""
    if config.checkpoint is None:
        return {}
    asked = (config.data or "bluemarble", name)
    theirs = run_setting(config.checkpoint, "data", None), run_setting(config.checkpoint, "eval_data", None)
    same = theirs == ("bluemarble", "auto") if asked[0] == "bluemarble" else theirs[1] == asked[0]
    run = Path(config.checkpoint).expanduser()
    run = next((place for place in (run, *run.parents[1:2]) if (place / "rollouts.sqlite").is_file()), None)
    if not same or run is None:
        return {}
    try:
        rows = query_rollouts(run, _LAST, [name], wait_s=5)
    except sqlite3.DatabaseError as error:
        print(f"no choice of difficulty: {run / 'rollouts.sqlite'} cannot be read ({error})")
        return {}
    return {row["sample_key"]: MAX_DISTANCE_KM if row["distance_km"] is None else row["distance_km"] for row in rows}
