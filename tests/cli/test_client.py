from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.client import USAGE, out, say
from cli.containers import app as containers

TEXT = "value [/udp] of [bold]somebody[/] " + "that is longer than any line " * 12


def test_what_others_wrote_is_neither_markup_nor_broken_into_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(out, ("head", "red"), " ", TEXT)
    assert capsys.readouterr().out == f"head {TEXT}\n"


@pytest.mark.parametrize("wrong", ["80x", "a:80", "[/udp]"])
def test_a_wrong_port_is_explained(wrong: str) -> None:
    done = CliRunner().invoke(containers, ["run", "image", "--port", wrong])
    assert done.exit_code == USAGE
    assert f"{wrong!r} is not [HOST:]CONTAINER[/udp]" in done.output


def test_a_file_that_cannot_be_sent_is_explained() -> None:
    done = CliRunner().invoke(containers, ["call", "some", "--data", "@/no/such/file"])
    assert done.exit_code == USAGE
    assert "/no/such/file cannot be read" in done.output
