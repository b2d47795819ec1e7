"""Signatures, judged by the library that receivers use."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from pipeline.webhooks import signing

BODY = b'{"type": "modelyard.image.ready", "data": {"name": "caf\xc3\xa9"}}'


def test_receivers_verify_with_either_of_two_secrets() -> None:
    new, old, other = (signing.new_secret() for _ in range(3))
    sent = signing.headers("msg-1", datetime.now(UTC), BODY, [new, old])
    for secret in (new, old):
        assert Webhook(secret).verify(BODY, sent)["type"] == "modelyard.image.ready"
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(BODY, sent)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(BODY + b" ", sent)


def test_an_old_message_cannot_be_played_again() -> None:
    secret = signing.new_secret()
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, signing.headers("msg-1", long_ago, BODY, [secret]))


def test_a_secret_is_as_long_as_the_specification_wants() -> None:
    secret = signing.new_secret()
    assert secret != signing.new_secret()
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
