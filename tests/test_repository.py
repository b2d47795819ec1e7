"""What every file of the repository must or must not hold."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.sources import ROOT

REQUIREMENTS = sorted(path.name for path in ROOT.glob("requirements*.txt"))
# Spelt in two parts, so that this file passes its own test.
INDEX_HOSTS = re.compile(
    r"py" + r"pi\.org|python" + r"hosted\.org|debian\.or" + r"g|npmjs\.or" + "g"
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_name_no_index(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(i|f|-index-url|-extra-index-url|-find-links)", text, re.MULTILINE)


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    entries = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    loose = [
        entry
        for entry in entries
        if not re.match(
            r"^[\w.\-\[\]]+==\S+( ;[^\\]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*$", entry
        )
        and not entry.startswith("#")
    ]
    assert entries
    assert not loose, loose


def test_smaller_requirement_sets_agree_with_the_largest() -> None:
    largest = pins("requirements-dev.txt")
    for name in ("requirements.txt", "requirements-local.txt"):
        assert pins(name).items() <= largest.items()


def test_no_file_names_a_package_index() -> None:
    naming = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if INDEX_HOSTS.search(path.read_bytes().decode(errors="replace"))
    ]
    assert not naming, naming


@pytest.mark.parametrize("script", [".ci/run", "deploy/setup.sh", "deploy/lock.sh"])
def test_scripts_can_be_run_and_stop_at_the_first_error(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.\-]+)(?:\[.*?\])?==(\S+)", (ROOT / name).read_text(), re.M))
