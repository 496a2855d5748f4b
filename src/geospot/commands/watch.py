"""`geospot watch RUN`: a page of runs that is kept up to date, or their replay as one file."""

import importlib.util
from pathlib import Path

from geospot.config import WatchConfig
from geospot.errors import GeospotError, RunError, install_extra, mean_path
from geospot.net.loopback import served_names


def run(config: WatchConfig) -> None:
    """Serve the page until Ctrl-C, or write the replay."""
    need_pages("watch")
    folder = Path(config.run).expanduser()
    if not folder.is_dir():
        raise RunError(f"{config.run}: no such folder{mean_path(config.run)}; `geospot runs` lists the runs there are")
    if config.out:
        write(folder, Path(config.out).expanduser())
        return
    from geospot.report.live.serving import serve_site, site_key
    from geospot.report.live.site import make_site
    from geospot.report.live.watching import Watch

    key, watch = site_key(config.host), Watch(folder.resolve())
    app = make_site(watch.routes(), key=key, hosts=served_names(key), lifespan=watch.lifespan)
    say = f"watching {config.run} at"
    serve_site(app, config.host, config.port, key, say=say, show=config.open, closing=watch.close)


def write(folder: Path, out: Path) -> None:
    """The replay; RunError where there is nothing to show."""
    from geospot.report.live.following import followed_runs
    from geospot.report.live.replay import write_replay

    runs = followed_runs(folder.resolve())
    for one in runs:
        one.poll()
    runs = [one for one in runs if one.rows]
    if not runs:
        raise RunError(f"{folder}: no run in it has made a step, so there is nothing to replay")
    write_replay(out, runs, runs[0].name if len(runs) == 1 else folder.resolve().name)
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB); it opens in any browser, without network")


def need_pages(command: str) -> None:
    """GeospotError that names the extra, where what serves the pages is not installed."""
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise GeospotError(
            f"geospot {command} needs {' and '.join(missing)}: install the extra pages with {install_extra('pages')}"
        )
