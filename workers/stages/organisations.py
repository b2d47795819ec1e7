"""Stages of organisations and users, for automation of the installation's own organisation."""

from __future__ import annotations

from pipeline import topology
from pipeline.access.roles import sender
from pipeline.bootstrap.control_plane import Services
from schemas.access import Principal, UserEdit
from schemas.commands import ById, OrganisationUpdate, UserUpdate
from schemas.message import Message
from schemas.organisation import OrganisationEdit, OrganisationSpec
from workers.broker import YardBroker, stage
from workers.middleware import Command


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`. `id` is a uuid or a slug."""

    def operator(command: Message) -> Principal:
        return sender(command, home=services.settings.org)

    @stage(broker, topology.ORGANISATION_CREATE)
    async def create(spec: OrganisationSpec, command: Command) -> None:
        """Make an organisation. The message id is the idempotency key."""
        await services.organisations.create(operator(command), spec, key=command.id)

    @stage(broker, topology.ORGANISATION_UPDATE)
    async def update(order: OrganisationUpdate, command: Command) -> None:
        """Change its name or quotas. Idempotent."""
        edit = OrganisationEdit.model_validate(order.model_dump(exclude={"id"}))
        await services.organisations.edit(operator(command), order.id, edit)

    @stage(broker, topology.ORGANISATION_DELETE)
    async def delete(which: ById, command: Command) -> None:
        """Delete one that holds nothing. Idempotent by uuid."""
        await services.organisations.delete(operator(command), which.id)

    @stage(broker, topology.USER_UPDATE)
    async def update_user(order: UserUpdate, command: Command) -> None:
        """Disable or enable a user of any organisation, or give another role. Idempotent."""
        edit = UserEdit(role=order.role, active=order.active)
        await services.access.users.edit(operator(command), order.id, edit)
