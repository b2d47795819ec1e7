"""One connection to NATS that is opened once and kept, and its errors, which become ours here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from pipeline.concurrency import comes_within
from pipeline.errors import (
    BusUnavailable,
    InvalidInput,
    Misconfigured,
    NotFound,
    TooLarge,
    YardError,
)

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2
RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 10
OUTSTANDING_PINGS = 2
"""A broker that is silent for this many pings is taken for gone and dialled again."""

Listener = Callable[[], None]


class PersistentClient(Client):
    """nats-py, without the two ways in which a connection of it dies for good."""

    async def _process_err(self, err_msg: str) -> None:
        # The original closes the client for ever on most protocol errors, for instance on an
        # expired login or a message above the limit. A lost permission costs no connection.
        if "permissions violation" in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(nats.errors.Error(f"nats: {err_msg}"))

    async def _process_pong(self) -> None:
        # A pong after its waiter gave up would set a cancelled future, and the exception would
        # end the reading task (nats-py 2.16).
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


class Connection:
    """The client with its comings and goings."""

    def __init__(self, servers: list[str]) -> None:
        self.client = PersistentClient()
        self.servers = servers
        self.address = ",".join(map(_address, servers))
        """Where the broker should be, without credentials."""
        self._up = asyncio.Event()
        self._opened = False
        self._reconnected: set[Listener] = set()
        self._slow: set[Listener] = set()
        self._last: BaseException | None = None
        self._told = ""

    @property
    def connected(self) -> bool:
        return self._up.is_set() and self.client.is_connected

    async def wait_connected(self, timeout_s: float) -> None:
        """Return at once when connected. Raises BusUnavailable after the timeout."""
        if not self.connected and not await comes_within(self._up, timeout_s):
            raise BusUnavailable(f"NATS at {self.address} does not answer: is it running?")

    @contextmanager
    def on_reconnect(self, listener: Listener) -> Iterator[None]:
        """While open, call `listener` whenever the connection came back."""
        with _listed(self._reconnected, listener):
            yield

    @contextmanager
    def on_slow(self, listener: Listener) -> Iterator[None]:
        """While open, call `listener` when the client dropped messages because it fell behind."""
        with _listed(self._slow, listener):
            yield

    async def dial(self, name: str, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._connect(name)
        except TimeoutError:
            raise BusUnavailable(
                f"NATS at {self.address} does not answer"
                f" ({self._last or 'no connection'}): is it running?"
            ) from None
        except FOREIGN as error:
            raise ours(error) from error
        self._opened = True
        self._up.set()

    async def _connect(self, name: str) -> None:
        await self.client.connect(
            self.servers,
            name=name,
            connect_timeout=CONNECT_TIMEOUT_S,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=OUTSTANDING_PINGS,
            error_cb=self._failed,
            disconnected_cb=self._went,
            reconnected_cb=self._came,
        )

    async def _failed(self, error: Exception) -> None:
        self._last = error
        if not self._opened and says_refused(error):
            # Raised through the client's connecting loop, which would try for ever.
            raise Misconfigured(
                f"NATS at {self.address} refused the login: check MODELYARD_NATS_URL."
            )
        if isinstance(error, nats.errors.SlowConsumerError):
            log.warning("fell behind on %s: messages were dropped", error.subject)
            _notify(self._slow)
        else:
            self._tell(str(error))

    def _tell(self, text: str) -> None:
        """Once: while the broker is away, the same is found out several times a second."""
        level = logging.DEBUG if text == self._told else logging.WARNING
        self._told = text
        log.log(level, "nats: %s", text)

    async def _went(self) -> None:
        self._up.clear()
        if self._opened and not self.client.is_closed:
            log.warning("lost the connection to NATS at %s; reconnecting", self.address)

    async def _came(self) -> None:
        self._up.set()
        self._told = ""
        log.info("connected to NATS at %s again", self.address)
        _notify(self._reconnected)


@asynccontextmanager
async def connection(url: str, *, name: str, wait_s: float) -> AsyncIterator[Connection]:
    """Raises BusUnavailable when no broker answers within `wait_s`, Misconfigured when refused."""
    opened = Connection([part.strip() for part in url.split(",")])
    try:
        await opened.dial(name, wait_s)
        yield opened
    finally:
        await opened.client.close()


@contextmanager
def _listed(listeners: set[Listener], listener: Listener) -> Iterator[None]:
    listeners.add(listener)
    try:
        yield
    finally:
        listeners.discard(listener)


def _notify(listeners: set[Listener]) -> None:
    for listener in tuple(listeners):
        listener()


def _address(server: str) -> str:
    try:
        parts = urlsplit(server if "://" in server else f"//{server}")
        host, port = parts.hostname, parts.port or 4222
    except ValueError:
        host, port = None, 0
    if not host:
        raise Misconfigured("MODELYARD_NATS_URL is not an address: write nats://host:4222.")
    return f"{host}:{port}"


FOREIGN = (nats.errors.Error, OSError, asyncio.TimeoutError)
"""Everything that a call of the client raises when the broker, or the way to it, is at fault."""

_REFUSED = (
    nats.errors.AuthorizationError,
    nats.errors.InvalidUserCredentialsError,
    nats.errors.SecureConnFailedError,
    nats.errors.SecureConnRequiredError,
    nats.errors.SecureConnWantedError,
)
_MALFORMED = (
    nats.errors.BadHeaderError,
    nats.errors.BadSubjectError,
    nats.js.errors.InvalidBucketNameError,
    nats.js.errors.InvalidObjectNameError,
    nats.js.errors.InvalidKeyError,
)
_MESSAGE_TOO_LARGE = 10054
"""JetStream error code of a message above the limit of its stream."""
_DELETE_FAILED = 10057


@contextmanager
def translated() -> Iterator[None]:
    """Raise ours for theirs. Cancellation and our own errors pass untouched."""
    try:
        yield
    except FOREIGN as error:
        raise ours(error) from error


def ours(error: BaseException) -> YardError:
    if isinstance(error, _REFUSED) or says_refused(error):
        return Misconfigured(f"NATS refused us ({error}): check the user in MODELYARD_NATS_URL.")
    if isinstance(error, nats.errors.MaxPayloadError) or _api_code(error) == _MESSAGE_TOO_LARGE:
        return TooLarge("The message is larger than the broker accepts.")
    if isinstance(error, _MALFORMED):
        return InvalidInput(f"The message cannot be sent: {error}.")
    if isinstance(error, nats.js.errors.NotFoundError) or _says_message_gone(error):
        return NotFound(f"The broker does not have it ({_describe(error)}).")
    return BusUnavailable(f"NATS cannot do it now ({_describe(error)}): try again.")


def says_refused(error: BaseException) -> bool:
    """The client reports a refused login as a plain error that holds the server's words."""
    text = str(error).lower()
    return "authorization violation" in text or "authentication" in text


def _api_code(error: BaseException) -> int | None:
    # Some kinds of APIError leave it out.
    return getattr(error, "err_code", None)


def _says_message_gone(error: BaseException) -> bool:
    return _api_code(error) == _DELETE_FAILED and "no message found" in str(error)


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__
