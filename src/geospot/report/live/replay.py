"""The replay of runs as one page that needs no server: all numbers, words and scripts are in the file."""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geospot.files import write_bytes_atomic
from geospot.report.live.answers import counts, packed, picture_words
from geospot.report.live.following import FollowedRun
from geospot.report.live.panels import panels_json
from geospot.report.live.site import SCRIPTS, STYLES, in_script, static_text
from geospot.report.live.watching import SCRIPTS as WATCHING
from geospot.report.live.watching import land_json
from geospot.report.page import escape

MOST_ANSWERS = 100_000  # of all runs together: of longer ones some steps are left out, evenly


def write_replay(path: Path, runs: Sequence[FollowedRun], title: str) -> Path:
    """Write the page; returns its path."""
    share = MOST_ANSWERS // max(1, len(runs))
    summaries, answers, pictures = [], {}, {}
    for run in runs:
        kept = thinned(counts(run.path), share)
        answers[run.name] = {split: _numbers(run.path, split, steps) for split, steps in kept.items()}
        pictures[run.name] = {
            split: {step: picture_words(run.path, split, step) for step, _ in steps} for split, steps in kept.items()
        }
        summaries.append(run.summary() | {"metrics": run.rows, "about": run.about(), "answers": kept})
    content = json.dumps({"runs": summaries, "answers": answers, "pictures": pictures}, separators=(",", ":"))
    data = base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode()
    write_bytes_atomic(path, _page(title, data).encode())
    return path


def thinned(answers: dict[str, list[list[int]]], most: int) -> dict[str, list[list[int]]]:
    """Of each split's [step, count] pairs so many, evenly spaced and with the last, that they hold `most` at most."""
    total = sum(n for pairs in answers.values() for _, n in pairs)
    if total <= most:
        return answers
    found = {}
    for split, pairs in answers.items():
        keep = max(2, len(pairs) * most // total)
        chosen = np.unique(np.linspace(0, len(pairs) - 1, min(keep, len(pairs))).round().astype(int))
        found[split] = [pairs[i] for i in chosen]
    return found


def _numbers(run: Path, split: str, steps: list[list[int]]) -> dict[str, Any]:
    """The answers of these steps, packed as the server sends them."""
    return packed(run, split, steps[0][0], steps[-1][0], only=[step for step, _ in steps])


def _page(title: str, data: str) -> str:
    scripts = [static_text(name) for name in (*SCRIPTS, *WATCHING)]
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {digests}; base-uri 'none'; "
        "form-action 'none'"
    )
    about = json.dumps({"panels": panels_json(), "land": land_json(), "root": title, "alone": True})
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{''.join(map(static_text, STYLES))}</style></head><body>"
        f'<script type="application/json" id="data">{in_script(about)}</script>'
        f'<script type="text/plain" id="replay">{data}</script><main id="app" class="live">'
        "<noscript>This page needs JavaScript, all of which is in the file.</noscript></main>"
        f"{''.join(f'<script>{script}</script>' for script in scripts)}</body></html>\n"
    )
