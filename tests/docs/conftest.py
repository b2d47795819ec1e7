"""One stack for all pages: each of them runs on what those before have left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.systems.yard import Yard


@pytest.fixture(scope="package")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    yard = Yard(tmp_path_factory.mktemp("docs"))
    up = yard.run("up", "--detach", "--ports", "auto")
    assert up.returncode == 0, up.stderr
    yield yard
    yard.run("down")
