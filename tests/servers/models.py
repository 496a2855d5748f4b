"""Models behind APIs on loopback: OpenAI's, Anthropic's and Google's protocols, streamed, with faults to order.

    with serving(answer) as server:           # answer(asked) -> Said
        server.url                            # http://127.0.0.1:PORT
        server.asked                          # every request that reached it
        server.fault = lambda asked, n: "500" if n == 1 else None    # n: how often this picture has been asked about

Faults: "429" and "500" and other statuses ("429 after 1": with Retry-After), "cut" (the stream breaks off), "stall"
(no byte until the test ends), "page" (an HTML page with status 200).
"""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = b"<!DOCTYPE html><html><head><title>Tunnel not found</title></head><body>gone</body></html>"


@dataclass
class Said:
    """What the model says: `finish` is stop, length, refusal or safety."""

    text: str
    finish: str = "stop"
    thoughts: str = ""
    served: str | None = None  # the name it answers under; None: the one that was asked for


@dataclass
class Asked:
    """A request as it came."""

    protocol: str
    model: str
    text: str
    pictures: list[bytes]
    body: dict[str, Any]
    headers: dict[str, str]


Answer = Callable[[Asked], Said]
Faulty = Callable[[Asked, int], str | None]


class Server:
    """See the module."""

    def __init__(self, answer: Answer, names: tuple[str, ...]):
        self.answer, self.names = answer, names
        self.fault: Faulty = lambda asked, n: None
        self.refuse: Callable[[Asked], str | None] = lambda asked: None  # why this request has status 400
        self.raw: Callable[[Asked], tuple[int, str, bytes] | None] = lambda asked: None  # status, type, body
        self.asked: list[Asked] = []
        self.times: Counter[bytes] = Counter()  # by picture
        self.released = threading.Event()
        self.lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            server_of_models = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # of clients that are gone: some are killed
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def serving(answer: Answer, *names: str) -> Iterator[Server]:
    with Server(answer, names or ("seer",)) as server:
        yield server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_models: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        names = self.server_of_models.names
        if "x-goog-api-key" in self.headers:
            self._json(200, {"models": [{"name": f"models/{name}"} for name in names]})
        elif "anthropic-version" in self.headers:
            rows = [{"type": "model", "id": n, "display_name": n, "created_at": "2026-01-01T00:00:00Z"} for n in names]
            self._json(200, {"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]})
        else:
            rows = [{"id": n, "object": "model", "created": 0, "owned_by": "test"} for n in names]
            self._json(200, {"object": "list", "data": rows})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = _READ[self._protocol()](body, self.path, {k.lower(): v for k, v in self.headers.items()})
        server = self.server_of_models
        with server.lock:
            server.asked.append(asked)
            key = b"".join(asked.pictures)
            server.times[key] += 1
            n = server.times[key]
        if asked.model not in server.names:
            return self._refused(404, f"The model `{asked.model}` does not exist")
        if (why := server.refuse(asked)) is not None:
            return self._refused(400, why)
        if (raw := server.raw(asked)) is not None:
            return self._body(raw[0], raw[2], raw[1])
        fault = server.fault(asked, n) or ""
        if fault == "stall":
            server.released.wait(600)
            self.close_connection = True
            return None
        if fault == "page":
            return self._body(200, PAGE, "text/html")
        if fault[:1].isdigit():
            status, _, after = fault.partition(" after ")
            return self._refused(int(status), "busy", {"retry-after": after} if after else {})
        said = server.answer(asked)
        if asked.protocol == "openai" and not body.get("stream"):  # as other programs ask
            return self._json(200, _whole_openai(said, said.served or asked.model))
        events = list(_WRITE[asked.protocol](said, said.served or asked.model))
        return self._stream(events[: len(events) // 2] if fault == "cut" else events, broken=fault == "cut")

    def _protocol(self) -> str:
        return {"messages": "anthropic", "completions": "openai"}.get(self.path.rsplit("/", 1)[-1], "gemini")

    def _refused(self, status: int, why: str, headers: dict[str, str] | None = None) -> None:
        kind = {404: "not_found", 429: "RESOURCE_EXHAUSTED"}.get(status, "error")
        error = {"message": why, "code": None, "type": kind} if self._protocol() != "gemini" else {
            "message": why, "code": status, "status": kind}  # fmt: skip
        self._json(status, {"type": "error", "error": error}, headers)

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self._body(status, json.dumps(value).encode(), "application/json", headers)

    def _body(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: list[str], *, broken: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if broken:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


# --- what each protocol sends ---


def _read_openai(body: dict, path: str, headers: dict) -> Asked:
    parts = body["messages"][-1]["content"]
    pictures = [_of_url(p["image_url"]["url"]) for p in parts if p["type"] == "image_url"]
    return Asked("openai", body["model"], _text(parts), pictures, body, headers)


def _read_anthropic(body: dict, path: str, headers: dict) -> Asked:
    parts = body["messages"][-1]["content"]
    pictures = [base64.b64decode(p["source"]["data"]) for p in parts if p["type"] == "image"]
    return Asked("anthropic", body["model"], _text(parts), pictures, body, headers)


def _read_gemini(body: dict, path: str, headers: dict) -> Asked:
    parts = body["contents"][-1]["parts"]
    pictures = [base64.urlsafe_b64decode(p["inlineData"]["data"]) for p in parts if "inlineData" in p]
    model = path.rpartition("/")[2].partition(":")[0]
    return Asked("gemini", model, "".join(p.get("text", "") for p in parts), pictures, body, headers)


def _of_url(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


def _text(parts: list[dict]) -> str:
    return "".join(p.get("text", "") for p in parts)


_READ = {"openai": _read_openai, "anthropic": _read_anthropic, "gemini": _read_gemini}


# --- and what each answers ---


def _halves(text: str) -> list[str]:
    return [part for part in (text[: len(text) // 2], text[len(text) // 2 :]) if part]


def _write_openai(said: Said, model: str) -> Iterator[str]:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": model}

    def event(delta: dict, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

    yield event({"role": "assistant"})
    if said.thoughts:
        yield event({"reasoning_content": said.thoughts})
    for part in _halves(said.text):
        yield event({"refusal": part} if said.finish == "refusal" else {"content": part})
    yield event({}, {"length": "length", "safety": "content_filter"}.get(said.finish, "stop"))
    usage = {"prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340}
    yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _whole_openai(said: Said, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": said.text, "refusal": None}
    finish = {"length": "length", "safety": "content_filter"}.get(said.finish, "stop")
    return {
        "id": "1", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340},
    }  # fmt: skip


def _write_anthropic(said: Said, model: str) -> Iterator[str]:
    def event(kind: str, **values: object) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **values})}\n\n"

    usage = {"input_tokens": 300, "output_tokens": 1}
    yield event("message_start", message={
        "id": "1", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": usage})  # fmt: skip
    if said.thoughts:
        yield event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
        yield event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": said.thoughts})
        yield event("content_block_stop", index=0)
    yield event("content_block_start", index=1, content_block={"type": "text", "text": ""})
    for part in _halves(said.text):
        yield event("content_block_delta", index=1, delta={"type": "text_delta", "text": part})
    yield event("content_block_stop", index=1)
    stop = {"length": "max_tokens", "refusal": "refusal", "safety": "refusal"}.get(said.finish, "end_turn")
    yield event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": 40})
    yield event("message_stop")


def _write_gemini(said: Said, model: str) -> Iterator[str]:
    def event(parts: list[dict], finish: str | None = None) -> str:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
        usage = {"promptTokenCount": 300, "candidatesTokenCount": 30, "thoughtsTokenCount": 10}
        value = {"candidates": [candidate | ({"finishReason": finish} if finish else {})], "usageMetadata": usage,
                 "modelVersion": model}  # fmt: skip
        return f"data: {json.dumps(value)}\n\n"

    if said.thoughts:
        yield event([{"text": said.thoughts, "thought": True}])
    for part in _halves(said.text):
        yield event([{"text": part}])
    yield event(
        [], {"length": "MAX_TOKENS", "safety": "SAFETY", "refusal": "PROHIBITED_CONTENT"}.get(said.finish, "STOP")
    )


_WRITE = {"openai": _write_openai, "anthropic": _write_anthropic, "gemini": _write_gemini}
