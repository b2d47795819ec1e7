import shlex
import subprocess

from pipeline.settings import Settings
from pipeline.stack import environment
from pipeline.stack.keys import Keys

FACTS = {
    "MODELYARD_URL": "http://127.0.0.1:8000",
    "MODELYARD_TOKEN": "a.b-c_d",
    "MODELYARD_MONGO_URL": "mongodb://u:p@127.0.0.1:27017/admin?replicaSet=r",
    "MODELYARD_ADMIN_PASSWORD": "it's $HOME & `more`",
    "DOCKER_HOST": "unix:///run/docker.sock",
    "OTHER": "not published",
}


def test_a_shell_reads_back_what_was_written() -> None:
    script = environment.as_shell(FACTS) + 'printf "%s" "$MODELYARD_ADMIN_PASSWORD"'
    read = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert read.stdout == FACTS["MODELYARD_ADMIN_PASSWORD"]


def test_addresses_need_no_quoting() -> None:
    lines = environment.as_shell(FACTS).splitlines()
    assert f"MODELYARD_MONGO_URL={FACTS['MODELYARD_MONGO_URL']}" in lines
    assert all(len(shlex.split(line)) == 1 for line in lines)


def test_only_the_published_variables_that_are_known_are_written() -> None:
    names = [line.partition("=")[0] for line in environment.as_shell(FACTS).splitlines()]
    assert names == [name for name in environment.PUBLISHED if name in FACTS]


def for_processes(inherited: dict[str, str]) -> dict[str, str]:
    return environment.for_processes(
        inherited, Settings(), Keys(), {"MODELYARD_NATS_URL": "nats://here"}, "modelyard-1"
    )


def test_what_the_user_set_wins_over_what_was_made_up() -> None:
    told = for_processes({"MODELYARD_SIGNING_KEY": "mine", "MODELYARD_ENCRYPTION_KEYS": ""})
    assert told["MODELYARD_SIGNING_KEY"] == "mine"
    assert told["MODELYARD_ENCRYPTION_KEYS"].startswith("k1:")
    assert told["MODELYARD_INSTALLATION"] == "modelyard-1"


def test_addresses_of_this_start_win_over_those_in_the_shell() -> None:
    told = for_processes({"MODELYARD_NATS_URL": "nats://earlier", "HOME": "/root"})
    assert told["MODELYARD_NATS_URL"] == "nats://here"
    assert told["HOME"] == "/root"
