"""Uses the client that openapi-python-client made: `generated_python.py URL PASSWORD REFERENCE`.

Its folder has to be on PYTHONPATH. Prints the uuid of the image that it brought and deleted.
"""

from __future__ import annotations

import sys

from modelyard_client import AuthenticatedClient, Client
from modelyard_client.api.access import log_in
from modelyard_client.api.images import delete_image, list_images, submit_image
from modelyard_client.models import (
    Image,
    ImageSpec,
    LoginRequest,
    PageViewImage,
    Problem,
    SessionView,
)

url, password, reference = sys.argv[1:]
anonymous = Client(url, raise_on_unexpected_status=True)
session = log_in.sync(client=anonymous, body=LoginRequest(username="admin", password=password))
assert isinstance(session, SessionView), session

client = AuthenticatedClient(url, token=session.access, raise_on_unexpected_status=True)
wanted = ImageSpec(reference=reference)
made = submit_image.sync(client=client, body=wanted, idempotency_key="generated-python")
assert isinstance(made, Image), made
again = submit_image.sync(client=client, body=wanted, idempotency_key="generated-python")
assert isinstance(again, Image), again
assert again.uuid == made.uuid
listed = list_images.sync(client=client, limit=200)
assert isinstance(listed, PageViewImage), listed
assert made.uuid in [image.uuid for image in listed.items]
stale = delete_image.sync(made.uuid, client=client, if_match='"77"')
assert isinstance(stale, Problem), stale
assert stale.code == "stale_revision"
deleted = delete_image.sync(made.uuid, client=client)
assert isinstance(deleted, Image), deleted
assert deleted.status == "DELETED"
print(made.uuid)
