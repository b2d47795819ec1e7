"""The models' door of a running system, as a client sees it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.waiting import eventually

ERROR_MEMBERS = {
    "statusCode",
    "status",
    "code",
    "message",
    "technicalInformation",
    "reportErrorUrl",
}


class Version:
    """One version of one model, and what can be done with it."""

    def __init__(self, door: Door, created: dict[str, Any]) -> None:
        self.door = door
        self.identifier: str = created["identifier"]
        self.version: str = created["version"]

    async def call(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        at = f"/models/{self.identifier}/versions/{self.version}"
        return await self.door.call(method, f"{at}/{path}" if path else at, **options)

    async def get(self, path: str = "") -> Any:
        answer = await self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def patch(self, **values: Any) -> dict[str, Any]:
        answer = await self.call("PATCH", json=values)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def link(self, url: str, **registry: Any) -> dict[str, Any]:
        answer = await self.call(
            "POST", "container-image", json={"registry": {"url": url, **registry}}
        )
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def delivered(self, url: str, **registry: Any) -> dict[str, Any]:
        """The object once the delivery is complete."""
        await self.link(url, **registry)
        settled = await self.settled()
        assert settled.status_code == 200, settled.text
        return dict(settled.json())

    async def load(self, **options: Any) -> httpx.Response:
        return await self.call("POST", "load-process", **options)

    async def settled(self, *, seconds: float = 30) -> httpx.Response:
        """What polling answers once the delivery has succeeded or failed."""
        answer: httpx.Response | None = None

        async def is_settled() -> bool:
            nonlocal answer
            answer = await self.call("GET", "container-image")
            return answer.status_code != 200 or answer.json()["percentage"] == 100

        await eventually(is_settled, timeout_s=seconds)
        assert answer is not None
        return answer

    async def until_status(self, *wanted: str, seconds: float = 30) -> dict[str, Any]:
        """The object once its status is one of these."""
        shown: dict[str, Any] = {}

        async def is_there() -> bool:
            nonlocal shown
            shown = (await self.call("GET", "container-image")).json()
            return shown.get("status") in wanted

        await eventually(is_there, timeout_s=seconds)
        return shown


class Door:
    def __init__(self, http: httpx.AsyncClient) -> None:
        """`http` has the base address of the server and the header of a caller."""
        self.http = http

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.http.request(method, f"/api{path}", **options)
        assert_form(answer)
        return answer

    async def create(self, name: str = "classifier", version: str = "1.0.0") -> Version:
        answer = await self.call("POST", "/models", json={"name": name, "version": version})
        assert answer.status_code == 201, answer.text
        return Version(self, answer.json())


def assert_form(answer: httpx.Response) -> None:
    """What holds for every answer of the door."""
    assert "retry-after" not in answer.headers
    assert answer.status_code < 500, answer.text
    if not answer.content:
        return
    assert answer.headers["content-type"] == "application/json", answer.text
    body = answer.json()
    if answer.status_code >= 400:
        assert set(body) >= ERROR_MEMBERS, body
        assert body["statusCode"] == answer.status_code
        texts = [body[name] for name in sorted(ERROR_MEMBERS - {"statusCode"})]
        assert all(isinstance(text, str) and text for text in texts), body
