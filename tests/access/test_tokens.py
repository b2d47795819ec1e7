import pytest

from pipeline.access.tokens import make_api_key, read_api_key, secret_hash, secret_matches

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_an_api_key_names_its_token_and_carries_a_secret() -> None:
    text = make_api_key(UUID, bytes(range(24)))
    assert text.startswith("myk_0f8fad5bd9cb469fa16570867728950e_")
    assert read_api_key(text) == (UUID, bytes(range(24)).hex())


@pytest.mark.parametrize(
    "text", ["", "myk_", "myk_1_2", f"myk_{'a' * 32}_", f"MYK_{'a' * 32}_{'b' * 48}", "a.b.c"]
)
def test_other_texts_are_no_api_keys(text: str) -> None:
    assert read_api_key(text) is None


def test_only_the_right_secret_matches_the_hash() -> None:
    hashed = secret_hash("ab" * 24)
    assert secret_matches("ab" * 24, hashed)
    assert not secret_matches("ab" * 23 + "ac", hashed)
    assert not secret_matches("ab" * 24, None)
    assert "abab" not in hashed
