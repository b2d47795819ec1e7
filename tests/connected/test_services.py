"""The services that all connected tests stand on."""

import pytest

from pipeline.stack.piece import Piece


@pytest.fixture(params=["own_nats", "own_mongod", "own_registry", "own_dockerd"])
def piece(request: pytest.FixtureRequest) -> Piece:
    found: Piece = request.getfixturevalue(request.param)
    return found


async def test_a_service_comes_back_at_the_same_place_after_sigkill(piece: Piece) -> None:
    await piece.kill()
    assert not piece.running
    await piece.start()
    assert await piece.ready()
