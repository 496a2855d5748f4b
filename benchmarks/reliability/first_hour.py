"""What the first hour is like: commands as new users type them, with what each says first.

    python benchmarks/reliability/first_hour.py [--full]

Typos, both ways to write a key, wrong folders, second runs. Prints command, seconds, exit status and the first line of
output, for somebody who has not seen the code to judge; `--full` prints all of it. Ends with status 1 where a command
ends with another status than expected, or shows a traceback, a raw errno or an object's address.
"""

import io
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# A command as it is typed, and the status that it should end with.
TYPED = (
    ("geospot", 0),
    ("geospot --version", 0),
    ("geospot help train", 0),
    ("geospot trian max_steps=2", 2),
    ("geospot evaluate", 2),
    ("geospot data --help | head -1", 0),
    ("geospot data inpsect photos", 2),
    ("geospot data inspect photos", 2),
    ("geospot data inspect photo", 2),
    ("geospot data inspect photos.csv out=nowhere/page.html", 2),
    ("geospot data inspect photos.csv", 0),
    ("geospot data pack photos.csv out=shards", 0),
    ("geospot data pack photos.csv out=shards", 0),
    ("geospot sft data=shards max_step=2", 2),
    ("geospot sft --data shards --max_steps two", 2),
    ("geospot sft data=shrads max_steps=2", 2),
    ("geospot sft data=shards lr_schedule=cosin", 2),
    ("geospot sft config=my.yml max_steps=2", 2),
    ("geospot sft --config my.toml --max-steps=2 --dry-run", 0),
    ("geospot sft config=my.toml max_steps=2", 0),
    ("geospot sft config=my.toml max_steps=2", 0),
    ("geospot sft config=my.toml max_steps=2 batch_size=3", 2),
    ("geospot sft config=my.toml max_steps=3", 0),
    ("geospot runs", 0),
    ("geospot report runs/sft-tiny", 0),
    ("geospot report runs", 2),
    ("geospot train from=runs/sft-tiny", 2),
    ("geospot eval predictions=gpt.csv truth=truht.csv", 2),
    ("geospot eval predictions=gpt.csv truth=truth.csv out=scored report=false", 0),
    ("geospot compare gpt.csv mine.csv truth=truth.csv", 0),
    ("geospot compare gpt.csv", 2),
    ("geospot guess photos/0.jpg model=geospot/tny", 2),
    ("geospot guess photos/0.jpg checkpoint=runs/sft-tiny out=g.doc", 2),
    ("geospot guess photos/0.jpg checkpoint=runs/sft-tiny --samples 2 --seed=1 --threads 1", 0),
    ("geospot export checkpoint=runs/sft-tiny out=exported", 0),
    ("geospot export checkpoint=runs/sft-tiny out=exported", 0),
    ("geospot completion bash", 0),
)
BAD = re.compile(r"Traceback \(most recent|\[Errno \d+\]|<[\w.]+ object at 0x|\bNone\b|\(\)")


def main(full: bool) -> int:
    """Type all of them in a folder of its own; returns the exit status."""
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        for typed, expected in TYPED:
            seconds, status, text = type_in(folder, typed)
            first = next((line for line in text.splitlines() if line.strip()), "").replace(scratch, "~")
            rows.append({"command": typed, "seconds": round(seconds, 1), "status": status, "first_line": first})
            print(f"$ {typed}\n  {seconds:5.1f} s  status {status}  {first}", flush=True)
            if full:
                print("\n".join(f"    | {line}" for line in text.replace(scratch, "~").splitlines()), flush=True)
            status = 0 if status == 141 else status  # `| head` had read enough before all was written
            if status != expected or (bad := BAD.search(text) if "completion" not in typed else None):
                what = f"status {status}, not {expected}" if status != expected else f"shows {bad[0]!r}"
                faults.append(f"{typed}: {what}")
    print("\n".join(["", *faults, f"{len(rows)} commands, {len(faults)} at fault"]))
    print(json.dumps({"n": len(rows), "faults": len(faults), "python": platform.python_version(), "rows": rows}))
    return int(bool(faults))


def type_in(folder: Path, typed: str) -> tuple[float, int, str]:
    """Seconds, exit status and all output of a command line, without the lines of a progress bar."""
    program = f"{sys.executable} -m geospot"
    words = re.sub(r"^geospot", program, typed)
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return time.monotonic() - started, done.returncode, done.stdout


def prepare(folder: Path) -> None:
    """What a new user has lying about: photos, a table of them, truths, two models' predictions, a configuration."""
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    places = [(48.86, 2.35), (40.71, -74.0), (-33.87, 151.21), (35.68, 139.69), (-12.05, -77.04), (30.04, 31.24)]
    rows = ["file,lat,lon"]
    for i, (lat, lon) in enumerate(places):
        blotches = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        out = io.BytesIO()
        blotches.resize((112, 112), Image.Resampling.BICUBIC).save(out, "JPEG")
        (folder / "photos" / f"{i}.jpg").write_bytes(out.getvalue())
        rows.append(f"photos/{i}.jpg,{lat},{lon}")
    (folder / "photos.csv").write_text("\n".join(rows) + "\n")
    truths = [f"{i},{lat},{lon}" for i, (lat, lon) in enumerate(places)]
    (folder / "truth.csv").write_text("\n".join(["image_name,lat,lon", *truths]) + "\n")
    for name, n, off in (("gpt", 6, 1.0), ("mine", 4, 0.5)):
        guesses = [f"{i},{lat + off},{lon}" for i, (lat, lon) in enumerate(places[:n])]
        (folder / f"{name}.csv").write_text("\n".join(["image_name,lat,lon", *guesses]) + "\n")
    (folder / "my.toml").write_text(
        'data = "shards"\neval_data = "none"\nbatch_size = 2\nthreads = 1\ndata_workers = 0\ndevice = "cpu"\n'
    )


if __name__ == "__main__":
    raise SystemExit(main("--full" in sys.argv[1:]))
