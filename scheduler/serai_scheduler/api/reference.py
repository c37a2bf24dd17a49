"""Writes docs/operator-api.md, from the API's calls and codes: run this module."""

import sys

from serai_scheduler.api.openapi import CALLS

INTRODUCTION = """# The operator API

What the command line calls, and what any program may call: JSON over HTTP at the control port
(`serai up` says where), with `Authorization: Bearer TOKEN`. The token of a one-machine Serai is in
`admin-token` in its data folder; deploying means running code, so keep it as you keep a password.

    curl -H "Authorization: Bearer $(cat DATA/admin-token)" http://127.0.0.1:7070/v1/apis

`GET /v1/openapi.json` describes every call and type for machines. `/healthz` (alive) and `/readyz`
(the store answers) need no token; `/metrics` (Prometheus) and `/metrics/gateway` (HAProxy's own;
in a cluster at each gateway's agent) do. The Host header has to be one of the scheduler's own
names, so that no web page can call it.
In a cluster any scheduler may be asked, and agents have a token of their own: see
[scheduler.md](scheduler.md).

"""
CODES = {
    "bad_request": (400, "the body does not fit; `problems` holds each fault"),
    "bad_digest": (400, "what stands for a digest is none"),
    "bad_batch": (400, "a batch of blobs ends in the middle, or holds too many"),
    "upload_cut_off": (400, "fewer bytes came than `Content-Length` said"),
    "report_invalid": (400, "a report that cannot be read"),
    "report_version": (400, "a report of another version; the text says which side to upgrade"),
    "too_many_nodes": (400, "more nodes report than are kept"),
    "http": (400, "anything else that is no good HTTP; the status tells which"),
    "unauthorized": (401, "no token, or a wrong one"),
    "forbidden": (403, "the agents' token, for a call that it is not enough for"),
    "not_found": (404, "there is no such API, or no such path"),
    "no_blob": (404, "no blob has this digest"),
    "method_not_allowed": (405, "the path has no such method"),
    "updating": (409, "an update of the API is under way; `force` replaces it"),
    "deleting": (409, "the API is being deleted"),
    "conflict": (409, "somebody else changed it meanwhile; try again"),
    "kind_changed": (409, "an API of this name has another kind"),
    "only_node": (409, "no other node takes replicas, so a drain has nowhere to go"),
    "out_of_bounds": (409, "fewer or more replicas than the API's bounds"),
    "not_woken": (409, "the API may have no replica now; the text says what to do"),
    "blobs_missing": (409, "files of the deploy are not stored; send them first"),
    "no_part": (409, "parts of a file are not stored; send them again"),
    "report_old": (409, "a report older than one that came before"),
    "unreadable": (409, "the store's record of the API is damaged; the API stays as it is"),
    "length_required": (411, "a blob without `Content-Length`"),
    "body_too_large": (413, "a request above its limit"),
    "blob_too_large": (413, "a file above its limit"),
    "too_large": (413, "a manifest or lock above its limit"),
    "too_many_digests": (413, "a question about too many blobs"),
    "wrong_host": (421, "the Host header is none of the scheduler's names"),
    "invalid_spec": (422, "a spec breaks rules; `problems` holds every fault"),
    "incomplete": (422, "a predictor without its file, bundle or lock"),
    "bad_path": (422, "a path in a manifest that leads out of the bundle"),
    "digest_mismatch": (422, "the content is not what its digest says"),
    "size_mismatch": (422, "the content is not as long as was said"),
    "damaged": (422, "a stored blob is not what its digest says"),
    "internal": (500, "a fault of Serai's; its log has the trace"),
    "unavailable": (503, "the store does not answer, or the leader went away in the middle"),
    "consul_forbidden": (503, "Consul refuses the scheduler's token"),
    "nomad_forbidden": (503, "Nomad refuses the scheduler's token"),
    "no_leader": (503, "no scheduler leads at this moment; ask again after `Retry-After`"),
    "disk_full": (507, "no room for blobs"),
}


def page() -> str:
    """Return the page."""
    calls = "\n".join(
        f"| `{method.upper()} {path}` | {summary} | {_name(body)} | {_name(result)} |"
        for method, path, summary, body, result in CALLS
    )
    codes = "\n".join(
        f"| {status} | `{code}` | {meaning} |"
        for code, (status, meaning) in sorted(CODES.items(), key=lambda one: (one[1][0], one[0]))
    )
    return (
        f"{INTRODUCTION}| call | what it does | body | answer |\n|---|---|---|---|\n{calls}\n\n"
        "Blobs have more calls (batches, parts): see [bundles.md](bundles.md).\n\n"
        "Errors are `application/problem+json` with `status`, `title`, `detail` (what happened,\n"
        "why, what to do), a `code` that does not change, and `problems` where there are several\n"
        "faults:\n\n"
        f"| status | code | when |\n|---|---|---|\n{codes}\n"
    )


def _name(kind: type | None) -> str:
    if kind is None:
        return ""
    return "the bytes" if kind is bytes else f"`{kind.__name__}`"


if __name__ == "__main__":
    sys.stdout.write(page())
