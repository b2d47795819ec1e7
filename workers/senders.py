"""Who a command comes from when it did not come through a door."""

from __future__ import annotations

from pipeline.rules import roles as rights
from pipeline.rules import topology
from schemas.access import Principal, Role
from schemas.message import Message


def sender(command: Message) -> Principal:
    """A member of the organisation in the subject: whoever may publish there may do that.

    The payload and the headers name nobody who would be believed.
    """
    org = topology.parse_command(command.subject).org
    roles = frozenset({Role.MEMBER})
    return Principal(
        id=f"queue:{command.source}",
        org=org,
        name="queue",
        roles=roles,
        permissions=rights.permissions(roles, own=False),
    )
