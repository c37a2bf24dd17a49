"""The operator API described for machines, generated from its types."""

from functools import cache
from typing import Any

import msgspec

from serai import operator
from serai.decisions import DecisionList, Explanation
from serai.engine import LogLine
from serai.recorded import RecordedTraffic
from serai.report import NodeReport, ReportTaken
from serai.spec.codec import enc_hook, schema_hook
from serai.waking import WakeProgress

REF = "#/components/schemas/{name}"

CALLS: tuple[tuple[str, str, str, type | None, type | None], ...] = (
    ("get", "/v1/info", "What a client must know before it deploys", None, operator.Info),
    ("get", "/v1/apis", "All APIs", None, operator.ApiList),
    ("get", "/v1/apis/{api}", "Everything about one API", None, operator.ApiDescription),
    ("delete", "/v1/apis/{api}", "Delete an API", None, operator.Done),
    ("post", "/v1/apis/{api}/scale", "Set the replicas", operator.ScaleRequest, operator.Done),
    ("post", "/v1/apis/{api}/refresh", "Replace every replica", None, operator.Done),
    ("post", "/v1/apis/{api}/wake", "Wake a sleeping API", None, operator.Done),
    ("get", "/v1/apis/{api}/wake", "How it wakes, one JSON object a line", None, WakeProgress),
    ("get", "/v1/apis/{api}/decisions", "Decisions about the count", None, DecisionList),
    ("get", "/v1/apis/{api}/explanation", "Why there are so many replicas", None, Explanation),
    ("get", "/v1/apis/{api}/traffic", "What is kept of its traffic", None, RecordedTraffic),
    ("get", "/v1/apis/{api}/logs", "Log lines, one JSON object a line", None, LogLine),
    ("get", "/v1/apis/{api}/job", "The Nomad job of a version", None, operator.RenderedJob),
    ("post", "/v1/plan", "What a deploy would do", operator.DeployRequest, operator.PlanAnswer),
    ("post", "/v1/deploy", "Deploy APIs", operator.DeployRequest, operator.PlanAnswer),
    ("post", "/v1/blobs/missing", "Which blobs to send", operator.Digests, operator.Digests),
    ("put", "/v1/blobs/{digest}", "Send a blob", bytes, operator.Done),
    ("get", "/v1/nodes", "All nodes", None, operator.NodeList),
    (
        "post",
        "/v1/nodes/{node}",
        "Close, empty or open a node",
        operator.NodeRequest,
        operator.Done,
    ),
    ("get", "/v1/doctor", "How the cluster is", None, operator.Examination),
    ("post", "/v1/reports", "An agent's report", NodeReport, ReportTaken),
)


@cache
def describe() -> dict[str, Any]:
    """Return the OpenAPI 3.1 description."""
    kinds = sorted(
        {kind for call in CALLS for kind in call[3:] if isinstance(kind, type)} - {bytes},
        key=lambda kind: kind.__name__,
    )
    _, schemas = msgspec.json.schema_components(
        [*kinds, operator.Problem], schema_hook=schema_hook, ref_template=REF
    )
    paths: dict[str, Any] = {}
    for method, path, summary, body, result in CALLS:
        paths.setdefault(path, {})[method] = _operation(method, path, summary, body, result)
    described = {
        "openapi": "3.1.0",
        "info": {"title": "Serai operator API", "version": "1"},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(described, enc_hook=enc_hook))
    return plain


def _operation(
    method: str, path: str, summary: str, body: type | None, result: type | None
) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    words = [part.strip("{}") for part in path.split("/") if part][1:]
    operation: dict[str, Any] = {
        "operationId": "_".join([method, *words]).replace(".", "_"),
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ],
        "responses": {
            "200": {"description": "done", "content": _content(result)},
            "default": {
                "description": "a problem",
                "content": {"application/problem+json": {"schema": _ref(operator.Problem)}},
            },
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _content(body)}
    return operation


def _content(kind: type | None) -> dict[str, Any]:
    if kind is bytes:
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"application/json": {"schema": _ref(kind)}} if kind is not None else {}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": REF.format(name=kind.__name__)}
