"""Opens a journal in an SQLite file: WAL, synchronous=FULL, one writer, one agent by a lock file; not on network shares.

SQLite before 3.51.3 may lose rows when two connections write or checkpoint at the same moment, and every commit may
checkpoint. To exclude that, every process that writes, the agent or a second one (reader.py), first locks PATH.writing, and
unlocks it only after its commit and the checkpoint that may follow. The second process never checkpoints, and keeps no
connection open.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import NullPool, Pool, QueuePool

from edge_agent.errors import JournalError, JournalInUse
from edge_agent.io.files import put
from edge_agent.io.mounts import NETWORK, file_system
from edge_agent.journal.ballast import Ballast
from edge_agent.journal.database import DAMAGED, DISK_FAILS, Database, journal_errors
from edge_agent.journal.migrations import require_current_schema, upgrade_schema
from edge_agent.journal.sqlite_files import MAGIC, SqliteFiles

BUSY_MS = 5000  # how long to wait for another program, such as a backup, that locks the file
SQLITE_IOERR = 10  # https://www.sqlite.org/rescode.html; the higher bits say which operation failed
CHECKED_BYTES = 64 * 2**20  # smaller files are checked completely when opened; larger ones would delay the line


def open_sqlite(url: URL, *, ballast: bool = False) -> Database:
    """Open the file of `sqlite:///PATH`; create it, and its folder, if missing. Never replace an existing file.

    Args:
        url: sqlite:///PATH without options.
        ballast: keep a reserve file (ballast.py) beside it; default False.

    Raises:
        JournalError: the file is locked by another agent, damaged, not a journal, newer than this program, read-only,
            or on a network file system.
    """
    if url.query or url.database in (None, "", ":memory:"):
        raise JournalError("journal URL: write sqlite:///PATH, the path of a file, and no options")
    path = Path(str(url.database)).expanduser().resolve()
    kind = file_system(path)
    if kind in NETWORK:
        raise JournalError(
            f"journal {path}: SQLite cannot keep its promises on a network file system ({kind}): "
            "use a local disk, or a postgresql:// URL"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
    except OSError as error:
        remedy = "choose a folder with room, which the agent's user may write"
        text = _locking(error) if error.errno == errno.ENOLCK else f"{error.strerror}: {remedy}"
        raise JournalError(f"journal {path}: {text}") from error
    try:
        reserve = Ballast(path) if ballast else None
        with _exclusive(path):
            try:
                writer, files = _open_writer(path)
            except JournalError:
                if not (reserve and reserve.release()):
                    raise
                writer, files = _open_writer(path)
        if reserve:
            reserve.reserve()
    except BaseException:
        os.close(lock)
        raise
    # max_overflow=-1: however many threads read, none waits for another's connection.
    reading = ["query_only = ON", f"busy_timeout = {BUSY_MS}"]
    readers = _engine(path, QueuePool, "BEGIN", reading, max_overflow=-1)

    def release() -> None:
        files.close()
        os.close(lock)

    def abandon() -> None:
        _abandon(writer)
        os.close(lock)

    return Database(
        str(path),
        writer,
        readers,
        _size,
        release,
        reserve,
        lambda: _exclusive(path),
        abandon=abandon,
        file=path,
    )


def attach_sqlite(url: URL) -> Database:
    """Open the file of `sqlite:///PATH` while an agent may be using it. Raises JournalError."""
    path = Path(str(url.database)).expanduser().resolve()
    if not path.exists():
        raise JournalError(
            f"journal {path}: does not exist: start the agent first; that of a service lies elsewhere, "
            "say STATE_DIRECTORY=/var/lib/edge-agent before the command"
        )
    # No checkpoints: the agent's next commit makes one. NullPool: no idle connection that could block the agent.
    writing = ["synchronous = FULL", "foreign_keys = ON", f"busy_timeout = {BUSY_MS}", "wal_autocheckpoint = 0"]
    writer = _engine(path, NullPool, "BEGIN IMMEDIATE", writing)
    readers = _engine(path, NullPool, "BEGIN", ["query_only = ON", f"busy_timeout = {BUSY_MS}"])
    with journal_errors(str(path)), readers.begin() as connection:
        require_current_schema(connection, str(path))
    return Database(str(path), writer, readers, _size, lambda: None, exclusive=lambda: _exclusive(path), file=path)


def _locking(error: OSError) -> str:
    return f"its file system gives no lock ({error.strerror}): use a local disk; on NFS its lock service has to run"


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the write lock PATH.writing. Raises JournalError if another process holds it for longer than BUSY_MS."""
    try:
        # Read-only, as root may have created it with a command before the agent's first start.
        lock = os.open(f"{path}.writing", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(f"journal {path}: {error.strerror}: let the agent's user write in its folder") from error
    try:
        deadline = time.monotonic() + BUSY_MS / 1000
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if not isinstance(error, BlockingIOError):
                    raise JournalError(f"journal {path}: {_locking(error)}") from error
                if time.monotonic() > deadline:
                    raise JournalError(
                        f"journal {path}: another process has been writing for {BUSY_MS // 1000} s: end that one"
                    ) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _open_writer(path: Path) -> tuple[Engine, SqliteFiles]:
    """Create or upgrade the journal at `path`, and return the engine that writes it, and its files."""
    with journal_errors(str(path)):
        if _is_journal(path):
            _migrate(path, str(path))
        else:
            _create(path)
        return _writer(path)


def _size(connection: Connection) -> int:
    """Return the file's bytes without free pages, which SQLite reuses before the file grows."""
    pages, free, page = (
        int(connection.exec_driver_sql(f"PRAGMA {what}").scalar_one())
        for what in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page


def _lock(path: Path) -> int:
    """Lock PATH.lock for as long as the returned descriptor is open, and write our process id into it.

    The kernel releases the lock when the process dies, however it dies. The file stays: deleting it would let two agents
    lock one file each, both of the same name.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(lock, f"{os.getpid():<20}\n".encode(), 0)  # over the previous id, which works on a full disk, too
    except BlockingIOError:
        holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise JournalInUse(
            f"journal {path}: another agent uses it (process {holder}): stop that one, or give this one its own file"
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def process_of(path: Path) -> int | None:
    """Return the process id of the agent that holds the lock of a journal; None if there is none.

    It takes no lock itself, which would keep an agent from starting. A process whose files we may not see counts by its id.
    """
    try:
        agent = int(Path(f"{path}.lock").read_text("ascii")[:20])
        lock = os.stat(f"{path}.lock")
    except (OSError, ValueError):
        return None
    try:
        opened = list(Path(f"/proc/{agent}/fd").iterdir())
    except PermissionError:
        return agent
    except OSError:
        return None
    for one in opened:
        try:
            if os.path.samestat(one.stat(), lock):
                return agent
        except OSError:  # it was closed meanwhile, or is no file
            continue
    return None


def _is_journal(path: Path) -> bool:
    """Return whether there is a database at `path`; raise JournalError if there is another kind of file."""
    try:
        with path.open("r+b") as file:  # + because SQLite reports a read-only file only at the first write
            start = file.read(len(MAGIC))
    except FileNotFoundError:
        if Path(f"{path}-wal").exists():
            raise JournalError(
                f"journal {path}: the file is gone but its newest rows are still in {path.name}-wal: "
                "put the file back, or move the -wal away"
            ) from None
        return False
    except OSError as error:
        raise JournalError(
            f"journal {path}: {error.strerror}: name a file that the agent's user may read and write"
        ) from error
    if not start:
        raise JournalError(
            f"journal {path}: the file is empty, so what it held is lost: "
            "restore a backup, or move it away to begin a new journal"
        )
    if start != MAGIC:
        raise JournalError(
            f"journal {path}: this is not an SQLite database, or its beginning is damaged: "
            "check the path, restore a backup, or move it away to begin a new journal"
        )
    return True


def _create(path: Path) -> None:
    """Create a new journal under a temporary name and rename it, so that no crash leaves half of one."""
    new = Path(f"{path}.new")
    for leftover in (new, Path(f"{new}-journal")):
        leftover.unlink(missing_ok=True)
    _migrate(new, str(path))
    put(new, path)


def _migrate(path: Path, name: str) -> None:
    # Foreign keys stay off: batch migrations copy a table and drop the old one, to which others refer.
    pragmas = ["synchronous = FULL", f"busy_timeout = {BUSY_MS}"]
    engine = _engine(path, NullPool, "BEGIN IMMEDIATE", pragmas, creates=True)
    with engine.begin() as connection:
        upgrade_schema(connection, name)


def _writer(path: Path) -> tuple[Engine, SqliteFiles]:
    writing = ["journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", f"busy_timeout = {BUSY_MS}"]
    writer = _engine(path, QueuePool, "BEGIN IMMEDIATE", writing, pool_size=1, max_overflow=0)
    try:
        _check(writer, path)
        return writer, _watch_files(writer, path)
    except BaseException:
        writer.dispose()
        raise


def _watch_files(writer: Engine, path: Path) -> SqliteFiles:
    """Make every transaction of the writer first check that the files are still the ones that were opened."""
    files = SqliteFiles(path)

    @event.listens_for(writer, "begin")
    def check(_connection: Connection) -> None:
        files.check()

    return files


def _abandon(writer: Engine) -> None:
    """Keep the writing connection open until the process ends.

    When the last connection is closed, SQLite writes its log into the file, which would spoil a file that was cut or whose
    log was overwritten: as they are, both may still be rescued.
    """
    connection = writer.raw_connection()
    ctypes.pythonapi.Py_IncRef(
        ctypes.py_object(connection.driver_connection)
    )  # or the interpreter closes it at its end


def _check(writer: Engine, path: Path) -> None:
    with writer.begin() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if mode != "wal":
            raise JournalError(f"journal {path}: SQLite cannot use WAL there (but {mode}): use a local disk")
        if path.stat().st_size < CHECKED_BYTES:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if found != "ok":
                raise JournalError(f"journal {path}: {' '.join(found.split())}: {_remedy_of(found)}")


def _remedy_of(found: str) -> str:
    """Return what to do about what quick_check found: a page that cannot be read (SQLITE_IOERR) is no damage of the file."""
    codes = [int(code) & 0xFF for code in re.findall(r"error code=(\d+)", found)]
    return DISK_FAILS if SQLITE_IOERR in codes else DAMAGED


def _engine(
    path: Path, pool: type[Pool], begin: str, pragmas: Sequence[str], *, creates: bool = False, **options: int
) -> Engine:
    # rw: a reader must not create an empty file in place of a deleted one.
    place = f"file:{quote(str(path))}?mode={'rwc' if creates else 'rw'}"
    url = URL.create("sqlite+pysqlite", database=place, query={"uri": "true"})
    engine = create_engine(url, poolclass=pool, hide_parameters=True, **options)

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _record: object) -> None:
        # Otherwise the driver begins transactions by itself: late, and without IMMEDIATE.
        connection.isolation_level = None
        try:
            with closing(connection.cursor()) as cursor:
                for pragma in pragmas:
                    cursor.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
