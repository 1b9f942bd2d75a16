"""Files are replaced as a whole, or stay as they were."""

from pathlib import Path

import pytest

from cellular_bench.core.files import replacing, write_text_atomically


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_that_fails_in_the_middle_leaves_nothing(tmp_path: Path, before: str | None):
    path = tmp_path / "x.txt"
    if before is not None:
        path.write_text(before)

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of it")
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == ([] if before is None else ["x.txt"])
    assert before is None or path.read_text() == before
    write_text_atomically(path, "new")
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]
