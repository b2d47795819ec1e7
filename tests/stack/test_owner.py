import subprocess

from pipeline.stack.owner import Owner


def test_this_process_is_alive_and_survives_the_way_through_its_tag() -> None:
    me = Owner.me()
    assert me.alive
    assert Owner.from_tag(me.tag) == me


def test_a_later_process_with_the_same_number_is_somebody_else() -> None:
    me = Owner.me()
    assert not Owner(me.pid, me.started - 1).alive


def test_a_process_that_ended_is_not_alive_even_before_it_is_collected() -> None:
    child = subprocess.Popen(["sleep", "60"])
    owner = Owner.of(child.pid)
    assert owner.alive
    child.kill()
    assert child.stdout is None
    child.wait()
    assert not owner.alive


def test_text_that_is_no_tag_belongs_to_nobody() -> None:
    for text in ("", "lost+found", "12", "12-x"):
        assert not Owner.from_tag(text).alive
