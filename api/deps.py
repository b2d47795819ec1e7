"""What routes get handed besides the request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from pipeline.core.event_hub import EventHub
from pipeline.services import Services


async def services(request: Request) -> Services:
    opened: Services = request.app.state.services
    return opened


async def event_hub(request: Request) -> EventHub:
    hub: EventHub = request.app.state.hub
    return hub


Yard = Annotated[Services, Depends(services)]
Hub = Annotated[EventHub, Depends(event_hub)]
