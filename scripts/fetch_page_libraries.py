"""Fetch the JavaScript libraries of the live pages from npm, at pinned versions, into src/geospot/report/live/vendor.

    python scripts/fetch_page_libraries.py

Needs npm. A file that differs from the one whose SHA-256 stands here is refused.
"""

import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "src" / "geospot" / "report" / "live" / "vendor"
# npm package -> {file in it: (name here, SHA-256)}
FILES = {
    "leaflet@1.9.4": {
        "dist/leaflet.js": ("leaflet.js", "db49d009c841f5ca34a888c96511ae936fd9f5533e90d8b2c4d57596f4e5641a"),
        "dist/leaflet.css": ("leaflet.css", "a7837102824184820dfa198d1ebcd109ff6d0ff9a2672a074b9a1b4d147d04c6"),
        "LICENSE": ("leaflet.LICENSE", "53e8dc25862014e4324741ca18fbe3611e11d42ef69f59f86ea8c5389647d4cb"),
    },
    "uplot@1.6.32": {
        "dist/uPlot.iife.min.js": ("uplot.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
        "dist/uPlot.min.css": ("uplot.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
        "LICENSE": ("uplot.LICENSE", "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"),
    },
    "htm@3.1.1": {  # with preact 10 in the same file
        "preact/standalone.umd.js": ("preact.js", "62c4ffea400078c0eda7f435b22726b4961ebdf74c8506f188e92bec41d8ac51"),
        "LICENSE": ("htm.LICENSE", "740725f7252e750af735d0028cc534970772f513331e9f68150fede8fb3ce00f"),
    },
}


def main() -> None:
    """Write every file, or none that is not what it should be."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    for package, files in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                ["npm", "pack", package, "--silent"], cwd=folder, check=True, capture_output=True, text=True
            )
            with tarfile.open(Path(folder, done.stdout.split()[-1])) as archive:
                for inside, (name, digest) in files.items():
                    member = archive.extractfile(f"package/{inside}")
                    assert member is not None, inside
                    data = member.read()
                    found = hashlib.sha256(data).hexdigest()
                    if found != digest:
                        raise SystemExit(f"{package}: {inside} has SHA-256 {found}, not {digest}")
                    (VENDOR / name).write_bytes(data)
                    print(f"{name:<12} {len(data):>7,} bytes  {package}")


if __name__ == "__main__":
    main()
