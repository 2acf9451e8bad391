"""Says which file system a path lies on, from Linux's mount table; on other systems it does not know."""

from __future__ import annotations

import re
from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mountinfo")
# fmt: off
NETWORK = frozenset((
    "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3",
    "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
))
# That only programs of this machine write to, so that its kernel reports every change.
LOCAL = frozenset((
    "aufs", "bcachefs", "btrfs", "ecryptfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuse.fuse-overlayfs",
    "fuseblk", "hfsplus", "iso9660", "jffs2", "jfs", "msdos", "nilfs2", "ntfs", "ntfs3", "overlay", "ramfs", "reiserfs",
    "rootfs", "squashfs", "tmpfs", "ubifs", "udf", "ufs", "vfat", "xfs", "zfs",
))
# fmt: on


def file_system(path: Path, table: str | None = None) -> str | None:
    """Return the type ("ext4", "nfs4", ...) of the file system that `path` lies, or would lie, on; None if not known.

    table: the text of a mountinfo file, see proc(5); read from the kernel when not given.
    """
    if table is None:
        try:
            table = MOUNT_TABLE.read_text(errors="surrogateescape")
        except OSError:
            return None
    path = path.resolve()
    best, found = -1, None
    for line in table.splitlines():
        place, _, kind = line.partition(" - ")
        mounted = Path(_unescape(place.split()[4]))
        # Of two mounts at one place the later hides the earlier, hence >=.
        if (path == mounted or mounted in path.parents) and len(mounted.parts) >= best:
            best, found = len(mounted.parts), kind.split()[0]
    return found


def _unescape(field: str) -> str:
    """Turn the octal escapes of mount tables (\\040 for a space) back into characters."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
