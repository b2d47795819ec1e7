"""The unmodified `tuspy`, as somebody's script uses it: told and telling as `upload.mjs` does."""

from __future__ import annotations

import json
import sys
from typing import Any

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage


def _sent(asked: dict[str, Any]) -> dict[str, Any]:
    client = TusClient(asked["endpoint"], headers={"Authorization": f"Bearer {asked['token']}"})
    try:
        upload = client.uploader(
            asked["file"],
            chunk_size=asked["chunk"],
            metadata=asked["metadata"],
            upload_checksum=True,
            store_url=True,
            url_storage=FileStorage(asked["storage"]),
        )
        began = upload.offset
        stop_at = asked["chunk"] * asked["stopAfter"] if "stopAfter" in asked else None
        upload.upload(stop_at=stop_at)
    except TusCommunicationError as error:
        return {"how": "failed", "status": error.status_code}
    return {"how": "aborted" if stop_at else "done", "url": upload.url, "began": began}


if __name__ == "__main__":
    print(json.dumps(_sent(json.loads(sys.stdin.readline()))))
