"""Routes over one `Core`: what the SDK's command line and its REST client ask for, answered from the disk."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tinker import types

from geospot.engine.serve.core import Core, read_body
from geospot.engine.serve.store import check_ttl
from geospot.engine.serve.wire import Refused, read_json, read_model, unknown

ONE_USER = "this server has no accounts and no projects: whoever may connect can use all that is on it"
# Endpoints of SDK 0.38 that are refused, with which words.
REFUSED = {
    ("POST", "training_runs/{model_id}/checkpoints/{kind}/{name}/publish"): ONE_USER,
    ("DELETE", "training_runs/{model_id}/checkpoints/{kind}/{name}/publish"): ONE_USER,
    ("PUT", "sessions/{session_id}/project"): ONE_USER,
    ("GET", "sessions/{session_id}/trace_export"): "this server records no traces",
    ("GET", "audit"): "this server keeps no audit log",
    ("GET", "billing/usage/events"): "this server bills nothing",
    ("GET", "billing/usage/checkpoints/current"): "this server bills nothing",
    ("GET", "auth/apikey/me"): "this server has no accounts: it has one key, or none",
    ("DELETE", "auth/apikey/me"): "this server has no accounts: it has one key, or none",
    ("POST", "auth/token"): "this server takes the key itself (pjwt_auth_enabled=false)",
    ("POST", "create_custom_loss"): "custom losses run in the client here (custom_loss_server_side=false)",
    ("POST", "join_sampling_session"): "clones choose their own numbers here (sample_join_sampling_session=false)",
    ("POST", "retrieve_futures"): "answers are fetched one by one here (sample_use_retrieve_futures=false)",
}


class RestRoutes:
    """Handlers over one `Core`."""

    def __init__(self, core: Core):
        self.core = core

    async def runs(self, request: Request) -> Response:
        """A page of all runs."""
        runs = self.core.records.runs()
        cursor, page = _page(request, runs)
        return JSONResponse({"training_runs": [self._run(run) for run in page], "cursor": cursor})

    async def run(self, request: Request) -> Response:
        """One run."""
        model_id = request.path_params["model_id"]
        if (record := self.core.records.run(model_id)) is None:
            raise unknown(f"training run {model_id!r}")
        return JSONResponse(self._run(record))

    def _run(self, record: dict[str, Any]) -> dict[str, Any]:
        saved = self.core.checkpoints.of_run(record["training_run_id"])
        newest = {c["checkpoint_type"]: c for c in saved}  # the last of a kind is the newest
        return {
            "training_run_id": record["training_run_id"],
            "base_model": record.get("base_model", self.core.options.model_name),
            "model_owner": "local",
            "is_lora": record.get("lora_rank", 1) > 0,
            "lora_rank": record.get("lora_rank") or None,
            "last_request_time": _time(record.get("last_request", record.get("created", 0))),
            "last_checkpoint": newest.get("training"),
            "last_sampler_checkpoint": newest.get("sampler"),
            "user_metadata": _words(record.get("user_metadata")),
        }

    async def checkpoints_of_run(self, request: Request) -> Response:
        """All checkpoints of a run."""
        return JSONResponse({"checkpoints": self.core.checkpoints.of_run(request.path_params["model_id"])})

    async def checkpoints(self, request: Request) -> Response:
        """A page of all checkpoints, the newest first."""
        found = sorted(self.core.checkpoints.everything(), key=lambda c: c["time"], reverse=True)
        cursor, page = _page(request, found)
        return JSONResponse({"checkpoints": page, "cursor": cursor})

    async def delete(self, request: Request) -> Response:
        """A checkpoint goes."""
        self.core.checkpoints.delete(_path(request))
        return Response(status_code=204)

    async def set_ttl(self, request: Request) -> Response:
        """When a checkpoint expires, from now on."""
        ttl = read_json(await read_body(request)).get("ttl_seconds")
        if ttl is not None and not isinstance(ttl, int):
            raise Refused(422, f"ttl_seconds={ttl!r}: must be a number of seconds, or null")
        check_ttl(ttl)
        self.core.checkpoints.set_ttl(_path(request), ttl)
        return Response(status_code=204)

    async def sessions(self, request: Request) -> Response:
        """The ids of a page of all sessions, the newest first."""
        _, page = _page(request, self.core.records.sessions())
        return JSONResponse({"sessions": [record["session_id"] for record in page]})

    async def session(self, request: Request) -> Response:
        """One session."""
        session_id = request.path_params["session_id"]
        if (record := self.core.records.session(session_id)) is None:
            raise unknown(f"session {session_id!r}")
        named = {"user_metadata": _words(record.get("user_metadata")), "display_name": record.get("display_name")}
        sampler_ids = list(record.get("samplers", {}))
        return JSONResponse({"training_run_ids": record.get("models", []), "sampler_ids": sampler_ids, **named})

    async def search(self, request: Request) -> Response:
        """Sessions that fit, the newest first."""
        wanted = read_model(types.SessionSearchRequest, await read_body(request))
        found = [self._summary(record) for record in self.core.records.sessions() if _fits(record, wanted)]
        if wanted.cursor is not None:
            before = wanted.cursor.last_created_at.isoformat(), wanted.cursor.last_session_id
            found = [s for s in found if (s["created_at"], s["session_id"]) < before]
        page, more = found[: wanted.limit], len(found) > wanted.limit
        cursor = (
            {"last_created_at": page[-1]["created_at"], "last_session_id": page[-1]["session_id"]} if more else None
        )
        return JSONResponse({"sessions": page, "next_cursor": cursor})

    def _summary(self, record: dict[str, Any]) -> dict[str, Any]:
        saved = [c for model_id in record.get("models", []) for c in self.core.checkpoints.of_run(model_id)]
        status: dict[str, Any] = {"type": "active"}
        if record.get("status") != "active":
            status = {"type": "client_finished", "reason": {"type": "success"}}
        return {
            "session_id": record["session_id"],
            "created_at": _time(record["created"]),
            "owner": "local",
            "project_id": "local",
            "status": status,
            "checkpoints_count": len(saved),
            "checkpoint_storage_bytes": sum(c["size_bytes"] for c in saved),
            "display_name": record.get("display_name"),
            "user_metadata": _words(record.get("user_metadata")),
        }

    async def copy_weights(self, request: Request) -> Response:
        """A checkpoint under another run of a session."""
        wanted = read_model(types.CopyWeightsRequest, await read_body(request))
        if wanted.destination_project_id is not None or wanted.weights_access_token is not None:
            raise Refused(422, ONE_USER + "; give session_id and model_seq_id")
        if wanted.session_id is None or wanted.model_seq_id is None:
            raise Refused(422, "session_id and model_seq_id are needed: where the copy belongs")
        check_ttl(wanted.ttl_seconds)
        self.core.sessions.get(wanted.session_id)
        model_id = f"{wanted.session_id}:train:{wanted.model_seq_id}"
        spec = self.core.checkpoints.spec(wanted.source_path)
        path = self.core.checkpoints.copy(wanted.source_path, model_id, wanted.ttl_seconds)
        self.core.records.write_run(model_id, base_model=spec.base_model, lora_rank=spec.lora_rank)
        return JSONResponse({"tinker_path": path})


def refusing(words: str) -> Callable[[Request], Any]:
    """The handler of an endpoint that is refused."""

    async def refuse(request: Request) -> Response:
        raise Refused(422, words)

    return refuse


def _path(request: Request) -> str:
    where = request.path_params
    return f"tinker://{where['model_id']}/{where['kind']}/{where['name']}"


def _page(request: Request, items: list[dict[str, Any]]) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """The part of a list that `limit` and `offset` ask for, and where it is in the whole."""
    try:
        limit, offset = (int(request.query_params.get(name, n)) for name, n in (("limit", 20), ("offset", 0)))
    except ValueError:
        raise Refused(422, "limit and offset: must be whole numbers") from None
    if not (0 <= limit <= 10_000 and offset >= 0):
        raise Refused(422, f"limit={limit}, offset={offset}: limit from 0 to 10000, offset 0 or above")
    return {"offset": offset, "limit": limit, "total_count": len(items)}, items[offset : offset + limit]


def _fits(record: dict[str, Any], wanted: types.SessionSearchRequest) -> bool:
    named = wanted.session_id is None and wanted.display_name is None
    if wanted.display_name is not None:
        words, name = wanted.display_name.lower().split(), (record.get("display_name") or "").lower()
        named = bool(words) and all(word in name for word in words)
    named = named or record["session_id"] == wanted.session_id
    has = record.get("user_metadata") or {}
    status = "active" if record.get("status") == "active" else "client_finished"
    statuses = None if wanted.statuses is None else {s.type for s in wanted.statuses}
    return (
        named
        and all(has.get(key) == value for key, value in wanted.user_metadata.items())
        and (statuses is None or status in statuses)
        and not wanted.project_ids
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _words(metadata: dict[str, Any] | None) -> dict[str, str] | None:
    return metadata and {str(key): str(value) for key, value in metadata.items()}
