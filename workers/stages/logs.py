"""Output of containers, from the agents of all nodes, one message after the other."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from pipeline import topology
from pipeline.bootstrap.control_plane import Services
from pipeline.logs.chunks import LogBatch, LogOpening
from workers.broker import YardBroker, stage
from workers.middleware import Received

log = logging.getLogger(__name__)


def register(broker: YardBroker, services: Services) -> None:
    """A stage that owns no state. The node comes from the subject, which the broker guards."""

    @stage(broker, topology.LOG_INTAKE)
    async def take(received: Received) -> None:
        """Keep what came, or tell an agent how far that is. Idempotent."""
        node, kind = topology.parse_log(received.message.subject)
        data = received.message.data
        try:
            if kind == topology.LOG_OPEN:
                opening = LogOpening.model_validate_json(data)
            else:
                batch = LogBatch.model_validate_json(data)
        except ValidationError as error:
            # Tried again it would be no better, and what is behind it would wait.
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            log.warning("output of node %s cannot be read and is dropped: %s", node, problem)
            return
        if kind == topology.LOG_OPEN:
            opened = await services.logs.intake.open(node, opening)
            await services.bus.answer(opening.reply, opened.model_dump_json().encode())
        else:
            message = "/".join(map(str, received.key))
            await services.logs.intake.take(node, batch, message=message)
