"""Dockerfiles: which images they start from, and the label in every stage."""

from __future__ import annotations

import pytest

from pipeline.builds.dockerfile import read
from pipeline.errors import BuildFailed

LABEL = 'LABEL "l"="v"'


def bases(text: str, **args: str) -> tuple[str, ...]:
    return read(text, args=args, label="l", value="v").bases


def labelled(text: str) -> list[str]:
    return read(text, args={}, label="l", value="v").text.splitlines()


def test_every_stage_gets_the_label_right_after_its_from() -> None:
    text = "FROM scratch AS a\nCOPY . /\nfrom a\nRUN true\n"
    expected = ["FROM scratch AS a", LABEL, "COPY . /", "from a", LABEL, "RUN true"]
    assert labelled(text) == expected


def test_a_from_over_several_lines_is_one() -> None:
    text = "FROM \\\n# a comment\n\n  host/a:1 \\\n  AS b\nRUN x\n"
    assert labelled(text)[-2:] == [LABEL, "RUN x"]
    assert bases(text) == ("host/a:1",)


def test_what_continues_another_instruction_is_no_from() -> None:
    text = "FROM scratch\nRUN echo \\\nFROM host/b\n"
    assert bases(text) == ()
    assert labelled(text).count(LABEL) == 1


def test_another_sign_may_continue_lines() -> None:
    assert bases("# escape=`\nFROM host/a\nRUN x `\nFROM host/b\nRUN C:\\\nFROM host/c\n") == (
        "host/a",
        "host/c",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARG V=1\nFROM host/a:$V", "host/a:1"),
        ("ARG V\nFROM host/a:${V:-2}", "host/a:2"),
        ("ARG V=1\nFROM host/a:${V:+x}", "host/a:x"),
        ('ARG I="host/b"\nFROM "$I"', "host/b"),
        ("FROM --platform=linux/amd64 host/a@sha256:00 AS x", "host/a@sha256:00"),
        ("FROM scratch\nCOPY --from=host/tools:1 /a /b", "host/tools:1"),
        ("FROM scratch\nCOPY --chown=1 --from=host/tools /a /b", "host/tools"),
    ],
)
def test_images_are_found_as_the_engine_finds_them(text: str, expected: str) -> None:
    assert bases(text) == (expected,)


def test_an_argument_that_is_given_counts() -> None:
    assert bases("ARG V=1\nFROM host/a:$V", V="3") == ("host/a:3",)


def test_stages_are_no_images() -> None:
    text = "FROM host/a AS One\nFROM one\nCOPY --from=0 / /\nCOPY --from=ONE / /\nFROM scratch"
    assert bases(text) == ("host/a",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no FROM"),
        ("RUN x", "no FROM"),
        ("FROM", "names no image"),
        ("FROM $NOBODY", "not clear"),
        ("FROM a$(x)", "not clear"),
        ('FROM "a', "open quote"),
        ("FROM scratch\nADD http://127.0.0.1/ /x", "not allowed"),
        ("FROM scratch\nADD --chown=1 HTTPS://host/ /x", "not allowed"),
        ('FROM scratch\nADD ["a", "https://host/b", "/x"]', "not allowed"),
        ("FROM scratch\nARG A=http\nADD $A://host /x", "not allowed"),
        ("FROM scratch\nADD git@host:a/b /x", "not allowed"),
        ("FROM scratch\nONBUILD ADD http://host/ /x", "not allowed"),
    ],
)
def test_what_cannot_be_built_is_told(text: str, said: str) -> None:
    with pytest.raises(BuildFailed, match=said):
        bases(text)


def test_files_may_be_added() -> None:
    assert bases("FROM scratch\nADD rootfs.tar.gz /\n") == ()
