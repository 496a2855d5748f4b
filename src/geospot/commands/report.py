"""`geospot report RUN`: a page of a run, finished or not, from what its folder holds."""

from pathlib import Path

from geospot.config import ReportConfig
from geospot.errors import RunError
from geospot.report.run_page import write_run_page
from geospot.runs.overview import is_run


def run(config: ReportConfig) -> Path:
    """Write the page, and say where it is."""
    folder = Path(config.run).expanduser()
    if not folder.is_dir():
        raise RunError(f"{config.run}: no such folder; `geospot runs` lists the runs there are")
    if not is_run(folder):
        inside = ", ".join(str(path.parent) for path in sorted(folder.glob("*/config.json")) if is_run(path.parent))
        hint = f"; there are runs in it: {inside}" if inside else ""
        raise RunError(f"{config.run}: not a run folder (config.json, metrics.jsonl){hint}")
    page = write_run_page(folder, Path(config.out).expanduser() if config.out else folder / "report.html")
    print(f"wrote {page}")
    return page
