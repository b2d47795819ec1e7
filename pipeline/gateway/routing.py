"""What the gateway knows: its configuration, and the changes that need no other one. Pure.

HAProxy 2.6 and newer. A deployment made or deleted is another configuration, which is reloaded
without a connection being cut; a replica that comes, drains or goes is a command.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from pipeline.errors import Misconfigured
from pipeline.gateway.metering import bucket_rules
from schemas.container import Container, Desired
from schemas.states import ContainerStatus

_KEY: Final = re.compile(r"[A-Za-z0-9_+/=.:~-]{32,}")
"""The signing key stands in the configuration as it is: HAProxy 2.6 takes no other."""
SLUG_END: Final = "[a-z0-9]-[0-9a-f]{16}$"
"""Tells a host that begins with a slug from others."""
SLUG_LEAST: Final = 18
"""Characters of a slug: what is shorter need not be compared with a pattern for every call."""
PIPE_BYTES: Final = 2**18
"""Of the kernel's, through which answers go without being copied."""
MAX_CONNECTIONS: Final = 20_000
"""Of callers at the same time; more wait to be accepted. HAProxy raises its limit of files for that
as far as it may, and goes on with fewer, and a warning, where it may not."""
QUEUE_S: Final = 30
SPREAD_S: Final = 2
"""After a reload, within which the connections that callers keep end, most after an answer: ended
all at once, some would cut a call that is on its way."""
RETRY_AFTER_S: Final = 5


@dataclass(frozen=True, slots=True)
class Server:
    """A replica. `host` is an address of a node."""

    host: str
    port: int
    draining: bool = False
    """Calls under way go on, no new one comes."""
    max_calls: int = 0
    """At the same time; 0: no limit."""

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def definition(self) -> str:
        return f"{self.address} maxconn {self.max_calls}" if self.max_calls else self.address

    def name(self, replica: int) -> str:
        """Another definition is another name, so that a server never changes its own."""
        limit = f"-m{self.max_calls}" if self.max_calls else ""
        return f"r{replica}-{re.sub('[^0-9a-zA-Z]', '-', self.host)}-{self.port}{limit}"


def server_of(replica: Container, host: str | None) -> Server | None:
    """None while it is not ready, or publishes no port that could be called."""
    wanted = replica.spec.health.port if replica.spec.health else None
    bound = [each for each in replica.ports if each.protocol == "tcp"]
    port = next((each for each in bound if each.internal == wanted), bound[0] if bound else None)
    is_up = replica.status is ContainerStatus.RUNNING and replica.healthy_since is not None
    if not is_up or port is None or host is None:
        return None
    is_leaving = replica.drain_until is not None or replica.desired is not Desired.RUNNING
    return Server(host, port.host, draining=is_leaving)


@dataclass(frozen=True, slots=True)
class Backend:
    """A deployment, called at `/<slug>/…` or by `<slug>` as the first label of the host."""

    slug: str
    org: str
    servers: Mapping[str, Server] = field(default_factory=dict)
    """By name."""
    is_timed: bool = False
    """How long its answers take is counted."""

    @property
    def sections(self) -> list[str]:
        """What it takes of a configuration."""
        return [f"d_{self.slug}", *([table_of(self.slug)] if self.is_timed else [])]


def table_of(slug: str) -> str:
    """Where its answers are counted: a backend of its own, since each has but one table."""
    return f"l_{slug}"


@dataclass(frozen=True, slots=True)
class Listening:
    """How HAProxy is to listen and whom it is to believe."""

    bind: str
    """`address:port`."""
    admin_socket: str
    revoked: str
    """File of ids that admit nobody any more: of tokens, sessions and users, one a line."""
    signing_key: str = field(repr=False)
    activators: tuple[str, ...] = ()
    """`host:port` of the servers that wake a deployment without a replica."""


ACTIVATOR: Final = "/activator"
"""Path of those servers, with the slug and what was asked for behind it."""
PROOF: Final = "x-modelyard-gateway"
"""Header that tells them that a call comes from the gateway."""


def proof(signing_key: str) -> str:
    """What only the gateway and those servers know."""
    return hmac.new(signing_key.encode(), b"activator", hashlib.sha256).hexdigest()


def configuration(listening: Listening, backends: Mapping[str, Backend]) -> str:
    """The whole file. Raises Misconfigured for a signing key that cannot stand in it."""
    if not _KEY.fullmatch(listening.signing_key):
        raise Misconfigured(
            "The gateway verifies tokens with MODELYARD_SIGNING_KEY, which must be 32 or more"
            " letters, digits and - _ + / = . : ~ for that: choose another one."
        )
    known = map(_backend, sorted(backends.values(), key=_slug))
    parts = [_defaults(listening), _frontend(listening), _activator(listening), *known]
    return "\n".join(parts)


def _slug(backend: Backend) -> str:
    return backend.slug


def problem(status: int, code: str, title: str, detail: str) -> str:
    """The body of an error of the gateway's own (RFC 9457), as a quoted word of the file."""
    told = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return f"'{json.dumps(told)}'"


def _answer(status: int, code: str, title: str, detail: str, *headers: str) -> str:
    body = problem(status, code, title, detail)
    rest = "".join(f" hdr {header}" for header in headers)
    return f"return status {status} content-type application/problem+json string {body}{rest}"


_UNAUTHENTICATED: Final = _answer(
    401,
    "unauthenticated",
    "Unauthorized",
    "Send a token of Modelyard: Authorization: Bearer …",
    "WWW-Authenticate Bearer",
)
_REVOKED: Final = _answer(
    401,
    "unauthenticated",
    "Unauthorized",
    "The token was revoked, or its account is disabled: log in again.",
    "WWW-Authenticate Bearer",
)
_FORBIDDEN: Final = _answer(
    403, "permission_denied", "Forbidden", "This needs the role member: ask an administrator."
)
_UNKNOWN: Final = _answer(404, "not_found", "Not Found", "There is no such deployment.")
_NO_REPLICA: Final = _answer(
    503,
    "no_replica",
    "Service Unavailable",
    "No replica of the deployment is ready: try again.",
    f"Retry-After {RETRY_AFTER_S}",
)
_LEFT_WAITING: Final = (
    problem(
        502,
        "unreachable",
        "Bad Gateway",
        "The server at which the call waited for a replica has ended: try again.",
    )
    + f" hdr Retry-After {RETRY_AFTER_S}"
)
_ERRORS: Final = {
    400: ("invalid_input", "Bad Request", "The request cannot be read."),
    408: ("timeout", "Request Timeout", "The request did not come to its end in time."),
    502: ("unreachable", "Bad Gateway", "The replica ended the call before it had answered."),
    503: ("overloaded", "Service Unavailable", "No replica took the call in time: try again."),
    504: ("timeout", "Gateway Timeout", "The replica did not answer in time."),
}


def _defaults(listening: Listening) -> str:
    errors = "\n".join(
        f"    http-error status {status} content-type application/problem+json string "
        + problem(status, *told)
        + (f" hdr Retry-After {RETRY_AFTER_S}" if status == 503 else "")
        for status, told in _ERRORS.items()
    )
    return f"""\
global
    stats socket {listening.admin_socket} mode 600 level admin expose-fd listeners
    hard-stop-after 1h
    close-spread-time {SPREAD_S}s
    tune.pipesize {PIPE_BYTES}
    maxconn {MAX_CONNECTIONS}
    no strict-limits

defaults
    mode http
    option abortonclose
    option splice-response
    timeout connect 3s
    timeout http-request 30s
    timeout http-keep-alive 75s
    timeout client 1h
    timeout server 1h
    timeout tunnel 24h
    timeout queue {QUEUE_S}s
    retries 3
    option redispatch 1
    retry-on conn-failure
{errors}
"""


_WAKING: Final = "    use_backend activator if { var(txn.backend),nbsrv eq 0 } !{ stopping }\n"


def _frontend(listening: Listening) -> str:
    key = listening.signing_key
    return f"""\
frontend calls
    bind {listening.bind}
    http-request set-var(txn.token) http_auth_bearer
    http-request set-var(txn.claims) var(txn.token),field(2,.),ub64dec
    http-request set-var(txn.kind) var(txn.claims),json_query('$.kind')
    http-request set-var(txn.role) var(txn.claims),json_query('$.role')
    http-request set-var(txn.org) var(txn.claims),json_query('$.org')
    http-request set-var(txn.id) var(txn.claims),json_query('$.jti')
    http-request set-var(txn.session) var(txn.claims),json_query('$.sid')
    http-request set-var(txn.user) var(txn.claims),json_query('$.usr')
    http-request set-var(txn.now) date()
    http-request set-var(txn.left) var(txn.claims),json_query('$.exp','int'),sub(txn.now)
    acl is_signed var(txn.token),jwt_verify("HS256","{key}") -m int 1
    acl is_access var(txn.kind) -m str access
    acl is_current var(txn.left) -m int gt 0
    acl is_revoked var(txn.id) -m str -f {listening.revoked}
    acl is_revoked var(txn.session) -m str -f {listening.revoked}
    acl is_revoked var(txn.user) -m str -f {listening.revoked}
    http-request {_UNAUTHENTICATED} unless is_signed is_access is_current
    http-request {_REVOKED} if is_revoked
    http-request {_FORBIDDEN} unless {{ var(txn.role) -m str admin member }}
    http-request set-var(txn.label) req.hdr(host),lower,field(1,.)
    acl is_long var(txn.label) -m len {SLUG_LEAST}:63
    acl is_by_host var(txn.label) -m reg {SLUG_END}
    http-request set-var(txn.slug) var(txn.label) if is_long is_by_host
    acl is_by_path var(txn.by_path) -m found
    http-request set-var(txn.by_path) int(1) unless {{ var(txn.slug) -m found }}
    http-request set-var(txn.slug) path,field(2,/) if is_by_path
    http-request set-var(txn.backend) str(d_),concat(,txn.slug)
    http-request del-header x-modelyard- -m beg
    http-request del-header x-forwarded-prefix
{_WAKING if listening.activators else ""}\
    use_backend %[var(txn.backend)]
    default_backend unknown

backend unknown
    http-request {_UNKNOWN}
"""


def _activator(listening: Listening) -> str:
    """They check the token once more, and whose deployment it is."""
    servers = "".join(
        f"    server a{number} {address}\n"
        for number, address in enumerate(listening.activators, start=1)
    )
    return f"""\
backend activator
    balance leastconn
    acl is_by_path var(txn.by_path) -m found
    http-request set-header x-forwarded-prefix /%[var(txn.slug)] if is_by_path
    http-request replace-path ^/[^/]*/?(.*) /\\1 if is_by_path
    http-request set-path {ACTIVATOR}/%[var(txn.slug)]%[path]
    http-request set-header {PROOF} {proof(listening.signing_key)}
    http-error status 502 content-type application/problem+json string {_LEFT_WAITING}
{servers}"""


def _backend(backend: Backend) -> str:
    name = f"d_{backend.slug}"
    servers = "".join(
        f"    server {each} {server.definition}{' disabled' if server.draining else ''}\n"
        for each, server in sorted(backend.servers.items())
    )
    table = table_of(backend.slug)
    times = f"""\
backend {table}
    stick-table type integer size 512 store gpc0

"""
    return f"""\
{times if backend.is_timed else ""}\
backend {name}
    balance leastconn
    http-request {_UNKNOWN} unless {{ var(txn.org) -m str {backend.org} }}
    http-request {_NO_REPLICA} if {{ nbsrv({name}) eq 0 }} !{{ stopping }}
    http-request del-header authorization
    acl is_by_path var(txn.by_path) -m found
    http-request set-header x-forwarded-prefix /{backend.slug} if is_by_path
    http-request replace-path ^/{backend.slug}/?(.*) /\\1 if is_by_path
{bucket_rules(table) if backend.is_timed else ""}\
{servers}"""


def commands(known: Mapping[str, Server], wanted: Mapping[str, Server], slug: str) -> Iterator[str]:
    """Of the admin socket, to make the servers of a backend those that are wanted.

    A server with connections cannot be deleted: it takes no more, and is deleted another time.
    """
    for name, server in wanted.items():
        place = f"d_{slug}/{name}"
        if name not in known:
            yield f"add server {place} {server.definition}"
            yield f"enable server {place}"
            if server.draining:
                yield f"set server {place} state drain"
        elif known[name].draining is not server.draining:
            yield f"set server {place} state {'drain' if server.draining else 'ready'}"
    for name in known:
        if name not in wanted:
            yield f"set server d_{slug}/{name} state maint"
            yield f"del server d_{slug}/{name}"


def revocations(known: Set[str], wanted: Set[str], file: str) -> Iterator[str]:
    """Commands of the admin socket that make the list read from `file` the one that is wanted."""
    yield from (f"add acl {file} {id}" for id in sorted(wanted - known))
    yield from (f"del acl {file} {id}" for id in sorted(known - wanted))


def ids_of(acl: str) -> frozenset[str]:
    """What `show acl` lists: an address and a value in each line."""
    return frozenset(line.split()[1] for line in acl.splitlines() if line.startswith("0x"))


def servers_of(states: str) -> dict[str, dict[str, Server]]:
    """What `show servers state` says: slug → name → server.

    https://docs.haproxy.org/2.6/management.html (9.3, "show servers state").
    """
    found: dict[str, dict[str, Server]] = {}
    fields: list[str] = []
    for line in states.splitlines():
        if line.startswith("# "):
            fields = line[2:].split()
        elif fields and line[:1].isdigit() and " " in line:
            row = dict(zip(fields, line.split(), strict=False))
            if row["be_name"].startswith("d_"):
                is_draining = bool(int(row["srv_admin_state"]))
                server = Server(row["srv_addr"], int(row["srv_port"]), is_draining)
                found.setdefault(row["be_name"][2:], {})[row["srv_name"]] = server
    return found


def sections_of(backends: str) -> frozenset[str]:
    """Those of deployments that `show backend` names."""
    return frozenset(line for line in backends.split() if line.startswith(("d_", "l_")))
