"""Where the server is and who is calling: from the environment, or from the local stack."""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from cli.console import refuse

LOCAL = "http://127.0.0.1:8000"
URL, TOKEN = "MODELYARD_URL", "MODELYARD_TOKEN"


@dataclass(frozen=True, slots=True)
class Place:
    """A server that can be asked."""

    url: str
    token: str

    @property
    def is_local(self) -> bool:
        """On this machine, where no proxy leads."""
        host = httpx.URL(self.url).host
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")
        return address.is_loopback or address.is_unspecified

    @property
    def shown(self) -> str:
        """Without a password that is part of it."""
        return _shown(self.url)

    @property
    def proxy(self) -> str:
        """The proxy of the environment that leads there, or nothing."""
        url = httpx.URL(self.url)
        if self.is_local or proxy_bypass(url.host):
            return ""
        proxies = getproxies()
        found = proxies.get(url.scheme) or proxies.get("all", "")
        return _shown(found) if "://" in found else found.rpartition("@")[2]

    def connect(self, **options: Any) -> httpx.Client:
        """Exits when proxy or certificates of the environment cannot be used."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with _environment_explained():
            if self.is_local:
                options["trust_env"] = False
                if self.url.startswith("https:"):
                    options["verify"] = httpx.create_ssl_context()
            return httpx.Client(base_url=self.url, headers=headers, **options)


def find_place() -> Place:
    """The environment counts first. Exits when it holds what cannot be an address or a token."""
    facts = {name: os.environ[name] for name in (URL, TOKEN) if name in os.environ}
    if len(facts) < 2:
        facts = _local_facts() | facts
    return Place(_checked_url(facts.get(URL, LOCAL)), _checked_token(facts.get(TOKEN, "")))


def _local_facts() -> dict[str, str]:
    """What the running local stack wrote down."""
    path = Path(os.environ.get("MODELYARD_STATE") or ".modelyard") / "env"
    remedy = f"Start the stack anew, or set {URL} and {TOKEN}."
    try:
        lines = path.read_text("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        refuse(f"{path} cannot be read: {error.strerror}.", remedy)
    except ValueError:
        refuse(f"{path} is no UTF-8 text.", remedy)
    facts: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, found, value = line.removeprefix("export ").partition("=")
        try:
            if found:
                facts[name] = "".join(shlex.split(value))
        except ValueError:
            refuse(f"Line {number} of {path} has a quotation mark too few.", remedy)
    return facts


def _checked_url(text: str) -> str:
    """An address that can be connected to, as far as it can be seen from its looks."""
    text = text.strip()
    remedy = f"Set {URL} to something like {LOCAL}, or unset it for the stack of this folder."
    if not text:
        refuse(f"{URL} is empty.", remedy)
    try:
        url = httpx.URL(text)
        # What the resolver refuses by an error of its own.
        url.host.encode("idna")
    except (httpx.InvalidURL, ValueError):
        refuse(f"{URL} is no address: {_shown(text)!r}.", remedy)
    is_port = url.port is None or 0 < url.port < 2**16
    if url.scheme not in ("http", "https") or not url.host or not is_port:
        refuse(f"{URL} is no http address: {_shown(text)!r}.", remedy)
    return text


def _checked_token(text: str) -> str:
    """Without blanks around it. What else is wrong is told without showing any of it."""
    token = text.strip()
    if not all("!" <= sign <= "~" for sign in token):
        remedy = "Copy it again, whole and by itself."
        refuse(f"{TOKEN} holds characters that no token has.", remedy)
    return token


def _shown(url: str) -> str:
    scheme, found, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{found}{place.rpartition('@')[2]}{slash}{path}" if found else url


@contextmanager
def _environment_explained() -> Iterator[None]:
    """Errors of settings that the HTTP library takes from the environment itself."""
    try:
        yield
    except ImportError:
        refuse(
            "SOCKS proxies are not supported.",
            "Unset ALL_PROXY, HTTP_PROXY and HTTPS_PROXY, or have them name an http proxy.",
        )
    except (httpx.InvalidURL, ValueError) as error:
        refuse(
            f"The proxy of the environment cannot be used: {error}.",
            "Look at ALL_PROXY, HTTP_PROXY and HTTPS_PROXY.",
        )
    except OSError as error:
        refuse(
            f"The certificates of the environment cannot be read: {error.strerror or error}.",
            "Look at SSL_CERT_FILE and SSL_CERT_DIR.",
        )
