"""Files that parameters name: read only if they are files."""

import os

import pytest

from cellular_bench.benchmark.plan.params import completed, file_digests
from cellular_bench.benchmark.registry import methods
from cellular_bench.core.errors import UserError


def test_a_pipe_or_a_device_is_not_read(tmp_path):
    """Attack: a pipe makes the harness wait without end, and a device never ends."""
    os.mkfifo(tmp_path / "pipe")
    method = methods()["precomputed"]
    for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path)):
        with pytest.raises(UserError, match="cannot be read: not a regular file"):
            file_digests(method, completed(method, {"file": path}))


@pytest.mark.parametrize("path", ["~no-such-user-here/x", "a\0b", 3, ["x"]])
def test_what_is_no_path_is_said(path):
    with pytest.raises(UserError, match="Parameter 'file' of method 'precomputed' is "):
        completed(methods()["precomputed"], {"file": path})


def test_a_link_is_followed_to_its_file(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    method = methods()["precomputed"]
    link, file = (
        file_digests(method, completed(method, {"file": str(tmp_path / name)})) for name in ("link", "file")
    )
    assert link == file
