"""A small real HTTP server that speaks the API's contract, scripted by each test."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

KEY = "fb_test"


class Seen(NamedTuple):
    """A request as it came."""

    path: str
    headers: Message
    body: Any


class Exchange(BaseHTTPRequestHandler):
    """One request, and the means to answer it well or badly."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
        """Keep the test's output clean."""

    def _serve(self) -> None:
        length = int(self.headers.get("content-length", 0))
        content = self.rfile.read(length)
        is_json = self.headers.get_content_type() == "application/json"
        body = json.loads(content) if content and is_json else content or None
        api = self.server.api
        path = urlsplit(self.path).path
        with api.lock:
            api.seen.append(Seen(self.path, self.headers, body))
            scripts = api.scripts[self.command, path]
            # The last script of a path stays: it answers every further request.
            script = (scripts.pop(0) if len(scripts) > 1 else scripts[0]) if scripts else None
        if self.headers.get("authorization") != api.authorization:
            self.problem(401, code="not_authenticated", detail="No such key.")
        elif script is None:
            self.problem(404, code="not_found", detail=f"No {path} here.")
        else:
            script(self)

    def send(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def problem(self, status: int, **fields: Any) -> None:
        document = {"type": "about:blank", "title": "Refused", "status": status, **fields}
        self.send(status, json.dumps(document).encode(), "application/problem+json")

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def drop(self) -> None:
        """Close the connection in the middle of an answer."""
        self.close_connection = True


Script = Callable[[Exchange], None]


class _Server(ThreadingHTTPServer):
    api: "FakeApi"
    daemon_threads = True


class FakeApi:
    """Scripts by method and path; several for one path are used one after the other.

    Whoever sends another header Authorization is refused; None wants none at all, as a store does.
    """

    def __init__(self, authorization: str | None = f"Bearer {KEY}") -> None:
        self.authorization = authorization
        self.lock = threading.Lock()
        self.seen: list[Seen] = []
        self.scripts: dict[tuple[str, str], list[Script]] = defaultdict(list)
        self._server = _Server(("127.0.0.1", 0), Exchange)
        self._server.api = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, method: str, path: str, *scripts: Script) -> None:
        self.scripts[method, path].extend(scripts)

    def answers(self, method: str, path: str, value: Any, status: int = 200) -> None:
        self.on(method, path, lambda exchange: exchange.send(status, json.dumps(value).encode()))

    def refuses(self, method: str, path: str, status: int, **fields: Any) -> None:
        self.on(method, path, lambda exchange: exchange.problem(status, **fields))

    def streams(self, job_id: str, *frames: bytes) -> None:
        """Answer a job's stream with these frames and a clean end."""

        def script(exchange: Exchange) -> None:
            exchange.begin_stream()
            for frame in frames:
                exchange.piece(frame)
            exchange.end_stream()

        self.on("GET", f"/v1/jobs/{job_id}/events", script)

    def requests(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if urlsplit(seen.path).path == path]


def a_job(job_id: str = "job_1", status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    """A job as the contract describes it."""
    result = {
        "size_bytes": 3_900_000,
        "bits_per_weight": 5.12,
        "tensor_types": {"q4_K": 36},
        "source_size_bytes": 12_333_488,
        "baseline": {"perplexity": {"prose": 23.686, "code": 7.493}},
        "perplexity": {"prose": 24.405, "code": 7.667},
        "seconds": 12.5,
    }
    over = status in {"succeeded", "failed", "cancelled"}
    return {
        "id": job_id,
        "object": "job",
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": "2026-01-01T00:00:01Z",
        "finished_at": "2026-01-01T00:00:13Z" if over else None,
        "status": status,
        "source": "file:///models/tiny",
        "method": "gguf",
        "recipe": "gguf:Q4_K_M",
        "parameters": {"type": "Q4_K_M"},
        "evaluation": {"domains": ["prose", "code"], "windows": 40, "tasks": [], "task_items": 200},
        "priority": 0,
        "metadata": {},
        "labels": [],
        "retry_of": None,
        "sweep": None,
        "max_runtime_seconds": None,
        "max_pending_seconds": None,
        "max_attempts": None,
        "wait_for_capacity": False,
        "publish_to": None,
        "published": False,
        "waits_for": [],
        "error": {"code": "source_invalid", "message": "no config.json", "param": None} if status == "failed" else None,
        "steps": [a_step("fetch", "succeeded"), a_step("quantize", "succeeded" if over else "running")],
        "result": result if status == "succeeded" else None,
        "a_field_of_a_newer_server": True,
        **fields,
    }


def an_estimate(value: float, spread: float) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def a_row(job_id: str, recipe: str, size_bytes: int, loss: float, **fields: Any) -> dict[str, Any]:
    """A row of a sweep whose result has been measured."""
    comparison = {
        "items": 40,
        "tokens": 10_200,
        "baseline_perplexity": 10.0,
        "perplexity": 10 * loss,
        "perplexity_ratio": an_estimate(loss, 0.004),
        "kl_divergence": an_estimate(0.02, 0.01),
        "kl_divergence_p99": None,
        "agreement": an_estimate(0.97, 0.01),
    }
    return {
        "job": job_id,
        "recipe": recipe,
        "status": "succeeded",
        "error": None,
        "verdict": None,
        "size_bytes": size_bytes,
        "bits_per_weight": 5.12,
        "comparison": {"prose": comparison, "code": comparison},
        "tasks": None,
        "generation_tokens_per_second": None,
        "pareto": True,
        "seconds": {"cpu": 100.0},
        "cost": {"work": 0.01, "keeping_per_month": 0.1, "serving_per_million_tokens": None},
        **fields,
    }


def an_open_row(job_id: str, recipe: str, status: str, **fields: Any) -> dict[str, Any]:
    """A row of a sweep of which nothing is known yet."""
    nothing = ("verdict", "size_bytes", "bits_per_weight", "comparison", "generation_tokens_per_second", "cost")
    row = {**a_row(job_id, recipe, 0, 1.0), **dict.fromkeys(nothing)}
    return {**row, "status": status, "pareto": False, "seconds": {}, **fields}


def a_sweep(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A sweep as the contract describes it, whose second row is recommended."""
    statuses = [row["status"] for row in rows]
    chosen = rows[1] if len(rows) > 1 else None
    return {
        "id": "sweep_1",
        "object": "sweep",
        "created_at": "2026-01-01T00:00:00Z",
        "status": "succeeded" if set(statuses) == {"succeeded"} else "running",
        "jobs": {status: statuses.count(status) for status in dict.fromkeys(statuses)},
        "source": "file:///models/tiny",
        "preset": None,
        "evaluation": {"domains": ["prose", "code"], "windows": 40, "tasks": [], "task_items": 200},
        "gate": [],
        "priority": 0,
        "metadata": {},
        "labels": ["nightly"],
        "max_runtime_seconds": None,
        "max_pending_seconds": None,
        "max_attempts": None,
        "wait_for_capacity": False,
        "publish_to": None,
        "warnings": ["awq is left out: it does not fit."],
        "rows": list(rows),
        "recommendation": {
            "job": chosen and chosen["job"],
            "recipe": chosen and chosen["recipe"],
            "nearest": None,
            "alike": [],
            "conditions": [],
            "provisional": False,
            "reason": "It is the smallest that keeps what was asked for.",
        },
        "seconds": {"cpu": 250.0},
        "cost": {"currency": "EUR", "work": 0.25, "shared_work": 0.05, "keeping_per_month": 0.3},
        "a_field_of_a_newer_server": True,
        **fields,
    }


def a_plan(**fields: Any) -> dict[str, Any]:
    step = {"pool": "cpu", "needs": [], "vram_bytes": 0, "refused": None}
    return {
        "object": "plan",
        "source": "file:///m",
        "recipe": "gguf:Q4_K_M",
        "model": {
            "architecture": "LlamaForCausalLM",
            "parameter_count": 6_166_784,
            "size_bytes": 12_333_568,
            "dtype": "bfloat16",
            "layer_count": 6,
        },
        "steps": [
            {**step, "kind": "fetch", "memory_bytes": 536_870_912, "scratch_bytes": 0, "seconds": None, "reused": True},
            {
                **step,
                "kind": "convert",
                "memory_bytes": 2_000_000_000,
                "scratch_bytes": 13_000_000,
                "seconds": 65.0,
                "reused": False,
            },
        ],
        "result_bytes": 4_100_000,
        "fetched_at": "2026-01-01T00:00:00Z",
        "warnings": ["Mind the gap."],
        "refusals": [],
        **fields,
    }


def a_step(kind: str, status: str) -> dict[str, Any]:
    return {
        "id": f"step_{kind}",
        "kind": kind,
        "status": status,
        "pool": "cpu",
        "attempt": 1,
        "reused": False,
        "progress": {"done": 3, "total": 36, "unit": "tensors", "message": "blk.0", "seconds_left": 90.0},
        "started_at": None,
        "finished_at": None,
        "error": None,
    }


def an_attempt(**fields: Any) -> dict[str, Any]:
    return {
        "object": "job.attempt",
        "step": "quantize",
        "number": 1,
        "host": "node-1",
        "device": "cuda:0",
        "started_at": "2026-01-01T10:00:00.123456Z",
        "ended_at": "2026-01-01T10:05:00.623456Z",
        "outcome": "succeeded",
        "error": None,
        "forecast_memory_bytes": 6 * 10**9,
        "forecast_vram_bytes": 0,
        "forecast_scratch_bytes": 2 * 10**9,
        "peak_memory_bytes": 5 * 10**9,
        "peak_vram_bytes": None,
        "peak_scratch_bytes": 10**9,
        **fields,
    }


def a_dataset(**fields: Any) -> dict[str, Any]:
    return {
        "id": "dataset_1",
        "object": "dataset",
        "created_at": "2026-01-01T00:00:00Z",
        "name": "own.jsonl",
        "kind": "documents",
        "sha256": "0123456789abcdef" * 4,
        "size_bytes": 2_000_000,
        "documents": 17,
        **fields,
    }


def a_calibration() -> dict[str, Any]:
    return {
        "text": "dataset_1",
        "text_sha256": "1" * 64,
        "samples": 128,
        "tokens": 512,
        "sha256": "0123456789abcdef" * 4,
        "unknown_share": 0.004,
        "overlap": {"prose": 0.031},
        "warnings": ["3.1% of the text 'prose' is in the calibration text, too."],
    }


def an_event(number: int, message: str = "quantize started") -> dict[str, Any]:
    return {
        "id": number,
        "object": "job.event",
        "created_at": "2026-01-01T00:00:01Z",
        "level": "info",
        "type": "state",
        "message": message,
        "data": {},
    }


def event_frame(number: int, message: str = "quantize started") -> bytes:
    return f"id: {number}\nevent: job.event\ndata: {json.dumps(an_event(number, message))}\n\n".encode()


def progress_frame() -> bytes:
    steps = {"steps": [a_step("fetch", "succeeded"), a_step("quantize", "running")]}
    return f"event: progress\ndata: {json.dumps(steps)}\n\n".encode()


def done_frame(job: dict[str, Any]) -> bytes:
    return f"event: done\ndata: {json.dumps(job)}\n\n".encode()
