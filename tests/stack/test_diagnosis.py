"""What the doctor finds of files, clocks, certificates and programs, and what to do about it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.stack.diagnosis import certificate, clock, dated, fsync, private_files, version
from pipeline.stack.state import State

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path)
    state.piece("nats").mkdir(parents=True)
    return state


def configured(state: State, interval: str | None) -> Path:
    file = state.piece("nats") / "nats.conf"
    jetstream = {} if interval is None else {"sync_interval": interval}
    file.write_text(json.dumps({"jetstream": jetstream}))
    return file


def test_files_with_credentials_are_their_owners_alone(state: State) -> None:
    assert private_files(state) == []
    file = configured(state, "always")
    file.chmod(0o644)
    state.env_file.write_text("")
    state.env_file.chmod(0o600)
    mine, open_ = private_files(state)
    assert (mine.ok, mine.remedy) == (True, "")
    assert (open_.ok, open_.detail, open_.remedy) == (False, "0644", f"Run: chmod 600 {file}")


@pytest.mark.parametrize(("interval", "ok"), [("always", True), ("2m", False), (None, False)])
def test_a_broker_that_acknowledges_before_it_writes_is_found(
    state: State, interval: str | None, ok: bool
) -> None:
    assert fsync(state) == []
    configured(state, interval)
    (found,) = fsync(state)
    assert (found.ok, "sync_interval to always" in found.remedy) == (ok, not ok)


@pytest.mark.parametrize(("skew_s", "ok"), [(0, True), (4, True), (-6, False), (3600, False)])
def test_clocks_that_differ_are_found(skew_s: int, ok: bool) -> None:
    found = clock("yard", format_datetime(NOW + timedelta(seconds=skew_s)), NOW)
    assert (found.ok, bool(found.remedy)) == (ok, not ok)


def test_a_server_without_a_clock_is_found() -> None:
    assert not clock("yard", "", NOW).ok


def made(begins: datetime, ends: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "yard")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, begins, ends)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("begins", "ends", "told"),
    [
        (-1, 90, ""),
        (-1, 20, "Renew it now"),
        (-90, -1, "Renew it now"),
        (1, 90, "look at the clock"),
    ],
)
def test_certificates_that_end_soon_or_begin_late_are_found(
    begins: int, ends: int, told: str
) -> None:
    text = made(NOW + timedelta(days=begins), NOW + timedelta(days=ends))
    found = dated("certificate", text, NOW)
    assert (found.ok, told in found.remedy) == (not told, True)


async def test_only_tls_has_certificates(tmp_path: Path) -> None:
    assert await certificate("http://127.0.0.1:1", NOW) == []
    (found,) = await certificate("https://127.0.0.1:1", NOW)
    assert not found.ok


async def test_programs_tell_their_version() -> None:
    assert (await version("python", sys.executable)).startswith("Python 3.")
    assert await version("none", "/no/such/program") == ""
