import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Misconfigured
from pipeline.secrets.vault import Vault

OLD, NEW = os.urandom(32), os.urandom(32)
PLAIN = "correct horse battery staple"


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text(), st.text())
def test_what_was_sealed_opens_for_the_same_record(plain: str, org: str, record: str) -> None:
    vault = Vault({"k1": OLD})
    sealed = vault.seal(plain, org=org, record=record)
    assert vault.open(sealed, org=org, record=record) == plain


def test_the_same_text_is_sealed_differently_every_time() -> None:
    vault = Vault({"k1": OLD})
    assert vault.seal(PLAIN, org="a", record="r") != vault.seal(PLAIN, org="a", record="r")


def test_the_key_id_stands_in_the_clear_and_the_plain_text_nowhere() -> None:
    sealed = Vault({"k1": OLD}).seal(PLAIN, org="a", record="r")
    assert sealed.startswith("v1.k1.")
    assert PLAIN.encode() not in base64.urlsafe_b64decode(sealed.split(".")[2])


@pytest.mark.parametrize(("org", "record"), [("b", "r"), ("a", "s"), ("a,r", "")])
def test_a_ciphertext_moved_to_another_record_does_not_open(org: str, record: str) -> None:
    vault = Vault({"k1": OLD})
    with pytest.raises(Misconfigured, match="altered or moved"):
        vault.open(vault.seal(PLAIN, org="a", record="r"), org=org, record=record)


def test_every_altered_byte_is_noticed() -> None:
    vault = Vault({"k1": OLD})
    head, _, body = vault.seal("x", org="a", record="r").rpartition(".")
    raw = base64.urlsafe_b64decode(body)
    for index in range(len(raw)):
        altered = bytearray(raw)
        altered[index] ^= 1
        text = f"{head}.{base64.urlsafe_b64encode(altered).decode()}"
        with pytest.raises(Misconfigured):
            vault.open(text, org="a", record="r")


@pytest.mark.parametrize(
    "text", ["", "v1", "v1.k1", "v1.k1.", "v1.k1.AAAA", "v1.k1.!!", "v2.k1.AA"]
)
def test_a_damaged_text_is_a_clear_error(text: str) -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_ENCRYPTION_KEYS"):
        Vault({"k1": OLD}).open(text, org="a", record="r")


def test_the_first_key_seals_and_all_keys_open() -> None:
    before = Vault({"k1": OLD}).seal(PLAIN, org="a", record="r")
    both = Vault.from_setting(f"k2:{encoded(NEW)}, k1:{encoded(OLD)}")
    assert both.open(before, org="a", record="r") == PLAIN
    assert both.seal(PLAIN, org="a", record="r").startswith("v1.k2.")


def test_rotation_makes_the_old_key_superfluous_and_leaves_current_texts_alone() -> None:
    before = Vault({"k1": OLD}).seal(PLAIN, org="a", record="r")
    after = Vault({"k2": NEW, "k1": OLD}).rotate(before, org="a", record="r")
    only_new = Vault({"k2": NEW})
    assert only_new.open(after, org="a", record="r") == PLAIN
    assert only_new.rotate(after, org="a", record="r") == after


def test_a_missing_key_is_named() -> None:
    sealed = Vault({"k1": OLD}).seal(PLAIN, org="a", record="r")
    with pytest.raises(Misconfigured, match="lacks the key 'k1'"):
        Vault({"k2": NEW}).open(sealed, org="a", record="r")


def test_a_key_replaced_under_its_id_is_noticed() -> None:
    sealed = Vault({"k1": OLD}).seal(PLAIN, org="a", record="r")
    with pytest.raises(Misconfigured, match="replaced under its id"):
        Vault({"k1": NEW}).open(sealed, org="a", record="r")


def test_without_keys_nothing_is_sealed() -> None:
    with pytest.raises(Misconfigured, match="is empty"):
        Vault.from_setting("").seal(PLAIN, org="a", record="r")


@pytest.mark.parametrize(
    "setting",
    ["k1", "k1:", ":AAAA", "k 1:AAAA", "k1:AAAA", "k1:???", f"k1:{'A' * 43}=,k1:{'A' * 43}="],
)
def test_a_malformed_setting_is_refused_without_showing_it(setting: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Vault.from_setting(setting)
    assert "AAAA" not in str(caught.value)


def test_repr_shows_key_ids_only() -> None:
    vault = Vault.from_setting(f"k2:{encoded(NEW)},k1:{encoded(OLD)}")
    assert repr(vault) == "Vault(keys=['k2', 'k1'])"
