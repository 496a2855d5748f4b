"""Routes over one `Core`: what a person or a monitor sees of the server."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from geospot.engine.serve.core import Core
from geospot.engine.serve.metrics import MEDIA_TYPE, Moment

REFRESH_S = 5
SHOWN = 100  # rows of a table
_STYLE = """
:root{color-scheme:light dark;--line:light-dark(#d0d7de,#3d444d);--soft:light-dark(#59636e,#9198a1)}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .9rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th,p{color:var(--soft);font-weight:normal}td{overflow-wrap:anywhere;max-width:30rem}
"""
# Nothing is fetched or run, whatever a client's text says.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Rows = Sequence[Mapping[str, Any]]


class StatusRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core
        self.started = time.time()

    async def metrics(self, request: Request) -> Response:
        """Counters, times and gauges for Prometheus."""
        return Response(self.core.metrics.text(), headers={"Content-Type": MEDIA_TYPE})

    async def page(self, request: Request) -> Response:
        """Clients, models, queue and checkpoints for people."""
        now = self.core.moment()
        clients = await asyncio.to_thread(self._clients)
        saved = await asyncio.to_thread(self.core.checkpoints.everything)
        tables = {
            "Queue": self._queue(now),
            "Clients": clients,
            "Models in training": await asyncio.to_thread(self._models),
            "Checkpoints": self._checkpoints(saved),
        }
        return HTMLResponse(as_page(now.about, self._summary(now, saved), tables), headers=_HEADERS)

    def _summary(self, now: Moment, saved: Rows) -> str:
        registry = self.core.metrics.registry
        memory = registry.get_sample_value("process_resident_memory_bytes")
        parts = [
            f"geospot {now.about['version']} on {now.about['device']}",
            f"up {_duration(time.time() - self.started)}",
            "" if memory is None else f"{_size(memory)} of memory",
            *(f"{_size(n)} {kind} on the GPU" for kind, n in now.device_bytes.items()),
            f"{len(saved)} checkpoints, {_size(sum(c['size_bytes'] for c in saved))}",
            *(f"{registry.get_sample_value('geospot_tokens_total', {'use': use}):,.0f} tokens {says}"
              for use, says in (("prompt", "of prompts"), ("sampled", "sampled"), ("scored", "trained on"))),
        ]  # fmt: skip
        return " · ".join(part for part in parts if part)

    def _queue(self, now: Moment) -> Rows:
        """By kind of request: how many wait, how many are done, and how long they took."""
        value = self.core.metrics.registry.get_sample_value
        counts = next(iter(self.core.metrics.requests.collect())).samples
        kinds = sorted({s.labels["kind"] for s in counts} | set(now.waiting))
        rows = []
        for kind in kinds:
            done = {
                s.labels["outcome"]: int(s.value)
                for s in counts
                if s.labels["kind"] == kind and s.name[-6:] == "_total"
            }
            n, total = (value(f"geospot_request_seconds_{what}", {"kind": kind}) or 0 for what in ("count", "sum"))
            mean = f"{total / n:.2f} s" if n else "–"
            rest = ", ".join(f"{count} {what}" for what, count in done.items() if what != "answered")
            rows.append(
                {"request": kind, "waiting": now.waiting[kind], "answered": done.get("answered", 0), "mean time": mean,
                 "others": rest or "–"}
            )  # fmt: skip
        return rows

    def _clients(self) -> Rows:
        rows = []
        waiting = self.core.pending.waiting
        for session_id, session in self.core.sessions:
            known = self.core.records.session(session_id) or {}
            said = ", ".join(f"{key}={value}" for key, value in (known.get("user_metadata") or {}).items())
            rows.append(
                {"session": session_id, "name": known.get("display_name"), "metadata": said,
                 "last seen": f"{_duration(time.monotonic() - session.seen_at)} ago", "models": len(session.models),
                 "samplers": sum(s.session_id == session_id for s in self.core.samplers),
                 "waiting": sum(pending.session_id == session_id for pending in waiting)}
            )  # fmt: skip
        return rows

    def _models(self) -> Rows:
        rows = []
        for _, session in self.core.sessions:
            for model_id in list(session.models):
                known = self.core.records.run(model_id) or {}
                rank = known.get("lora_rank")
                said = ", ".join(f"{key}={value}" for key, value in (known.get("user_metadata") or {}).items())
                rows.append({"model": model_id, "rank": rank or "all weights", "metadata": said})
        return rows

    def _checkpoints(self, saved: Rows) -> Rows:
        return [
            {"path": c["tinker_path"], "size": _size(c["size_bytes"]), "saved": _minute(c["time"]),
             "expires": _minute(c["expires_at"]) if c["expires_at"] else "never"}
            for c in sorted(saved, key=lambda c: c["time"], reverse=True)
        ]  # fmt: skip


def as_page(about: Mapping[str, str], summary: str, tables: Mapping[str, Rows]) -> str:
    """One HTML document; every text in it is escaped."""
    title = f"geospot serve: {about['model']}"
    parts = "".join(f"<h2>{escape(name)}</h2>{_table(rows)}" for name, rows in tables.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_S}">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"</head><body><h1>{escape(title)}</h1><p>{escape(summary)}</p>{parts}</body></html>"
    )


def _table(rows: Rows) -> str:
    if not rows:
        return "<p>none</p>"
    head = _row("th", rows[0])
    body = "".join(_row("td", row.values()) for row in rows[:SHOWN])
    more = f"<p>and {len(rows) - SHOWN} more</p>" if len(rows) > SHOWN else ""
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>{more}'


def _row(tag: str, cells: Iterable[Any]) -> str:
    shown = ("–" if cell is None or cell == "" else str(cell) for cell in cells)
    return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in shown) + "</tr>"


def _size(n_bytes: float) -> str:
    """124 kB, 3.1 MB, 2.4 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"


def _duration(seconds: float) -> str:
    """12 s, 3 min, 2.5 h, 4.2 days."""
    for unit, size in (("days", 86_400), ("h", 3600)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _minute(stamp: str) -> str:
    return stamp[:16].replace("T", " ") + " UTC"
