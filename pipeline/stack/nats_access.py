"""Who may say what on the broker.

Every org has an account of its own. Subjects cross into the system's account only where listed
here, and so do replies: an answer to an org can end nowhere but in that org's account. Permissions
on one shared account are not enough, because a publisher chooses where its receipt is delivered and
that would be a way to put messages under the subjects of another org.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.rules import topology

SYSTEM_ACCOUNT = "MODELYARD"
SYSTEM_USER = "modelyard"


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


def org_reader(org: str) -> str:
    """The durable consumer of `YARD_EVENTS` from which an org may fetch: the system creates it.

    Were orgs allowed to create consumers, they could fetch from those of others, too.
    """
    return f"org-{topology.token(org)}"


def inbox_prefix(org: str) -> str:
    """What an org's client sets as its inbox prefix; it may listen on no other."""
    return f"_INBOX_{topology.token(org)}"


def _account(org: str) -> str:
    return f"ORG_{topology.token(org)}"


def _org_account(org: str, password: str) -> dict[str, Any]:
    events = _events(org)
    permissions = {
        "publish": {"allow": _calls(org)},
        "subscribe": {"allow": [events, f"{inbox_prefix(org)}.>"]},
    }
    calls = [{"service": {"account": SYSTEM_ACCOUNT, "subject": call}} for call in _calls(org)]
    return {
        "users": [{"user": org_user(org), "password": password, "permissions": permissions}],
        "imports": [{"stream": {"account": SYSTEM_ACCOUNT, "subject": events}}, *calls],
    }


def _exports(org: str) -> list[dict[str, Any]]:
    only = [_account(org)]
    # One fetch is answered by many messages.
    calls = [{"service": call, "accounts": only, "response_type": "stream"} for call in _calls(org)]
    return [{"stream": _events(org), "accounts": only}, *calls]


def _events(org: str) -> str:
    return f"yard.evt.{topology.token(org)}.>"


def _calls(org: str) -> list[str]:
    """Give commands, fetch from the reader, acknowledge what was fetched."""
    reader = f"{topology.EVENTS.name}.{org_reader(org)}"
    return [
        f"yard.cmd.{topology.token(org)}.>",
        f"$JS.API.CONSUMER.MSG.NEXT.{reader}",
        f"$JS.ACK.{reader}.>",
        # The longer form names the domain and the account, too.
        f"$JS.ACK.*.*.{reader}.>",
    ]
