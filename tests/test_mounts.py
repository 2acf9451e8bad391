"""Which file system a path lies on, read from mount tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.io.mounts import NETWORK, file_system

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 22 0:27 / /mnt/line\\0404 rw,relatime shared:9 master:2 - cifs //server/line4 rw,vers=3.1.1
32 22 0:28 / /mnt/line\\0404/local rw - xfs /dev/sdb1 rw
33 22 0:29 / /srv rw - ext4 /dev/sdc1 rw
34 33 0:30 / /srv rw - nfs4 server:/srv rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/lib/journal.db", "ext4"),
        ("/mnt/line 4/journal.db", "cifs"),
        ("/mnt/line 4", "cifs"),
        ("/mnt/line 40/journal.db", "ext4"),
        ("/mnt/line 4/local/deep/journal.db", "xfs"),
        ("/srv/journal.db", "nfs4"),
    ],
)
def test_the_innermost_and_latest_mount_decides(path: str, expected: str) -> None:
    assert file_system(Path(path), TABLE) == expected


def test_the_kernel_s_own_table_is_read() -> None:
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path("/")) not in NETWORK | {None, "proc"}
