import base64
import json
from pathlib import Path
from typing import Any

import pytest
from sample_model.runs import Unacceptable, run


class Counting:
    """Knows the length of what it is given."""

    def classify(self, data: bytes) -> dict[str, Any]:
        return {"label": f"{len(data)} bytes"}

    def classify_file(self, path: Path) -> dict[str, Any]:
        return self.classify(path.read_bytes())


def test_inline_text_and_bytes_are_classified() -> None:
    assert run(Counting(), {"text": "é"}) == {"label": "2 bytes"}
    encoded = base64.b64encode(b"\x89PNG").decode()
    assert run(Counting(), {"data_base64": encoded}) == {"label": "4 bytes"}


@pytest.mark.parametrize(
    ("request_body", "said"),
    [
        ([], "JSON object"),
        ({}, "exactly one"),
        ({"text": "a", "data_base64": "YQ=="}, "exactly one"),
        ({"text": 1}, "must be a string"),
        ({"data_base64": "%%"}, "not base64"),
        ({"data_base64": "é"}, "not base64"),
        ({"text": "\ud800"}, "lone surrogate"),
        ({"type": "file", "output": "/tmp/out"}, '"input" must be the path'),
        ({"type": "file", "input": "/in", "output": ""}, '"output" must be the path'),
        ({"type": "file", "input": "a\0b", "output": "/out"}, '"input" must be the path'),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_explained(request_body: Any, said: str) -> None:
    with pytest.raises(Unacceptable, match=said):
        run(Counting(), request_body)


def test_every_file_of_the_input_folder_gets_its_result_in_the_output_folder(
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "in", tmp_path / "made" / "out"
    (source / "deep").mkdir(parents=True)
    (source / "a.txt").write_text("abc")
    (source / "deep" / "b.bin").write_bytes(b"12345")
    answer = run(Counting(), {"type": "file", "input": str(source), "output": str(target)})
    assert answer == {"a.txt": {"label": "3 bytes"}, "deep/b.bin": {"label": "5 bytes"}}
    assert json.loads((target / "results.json").read_text()) == answer


def test_an_input_folder_without_files_is_refused(tmp_path: Path) -> None:
    for source, said in ((tmp_path, "holds no file"), (tmp_path / "absent", "No such file")):
        with pytest.raises(Unacceptable, match=said):
            run(Counting(), {"type": "file", "input": str(source), "output": str(tmp_path / "o")})


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("abc")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("x")
    request = {"type": "file", "input": f"{tmp_path}/folder", "output": f"{tmp_path}/in/out"}
    with pytest.raises(Unacceptable, match="in/out: Not a directory"):
        run(Counting(), request)
