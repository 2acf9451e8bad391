"""A real PostgreSQL server for the tests: Debian's, in a temporary folder, on a Unix socket, gone when they end."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import PATIENCE_S, wait_until

PASSWORD = "hush/hush@night"


@dataclass
class Server:
    """One PostgreSQL server: the folder of its programs, that of its socket and data, and its user (None: ours)."""

    programs: Path
    folder: Path
    user: str | None
    process: subprocess.Popen[bytes] | None = None
    names: Iterator[int] = field(default_factory=itertools.count)

    def start(self) -> None:
        """Start and wait until it takes connections."""
        places = ["-D", str(self.folder / "data"), "-k", str(self.folder)]
        settings = ["-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", *places, *settings], stderr=log, user=self.user, cwd=self.folder
            )
        process = self.process
        wait_until(lambda: self._accepts() or process.poll() is not None, "PostgreSQL takes connections")
        if process.poll() is not None:
            raise RuntimeError((self.folder / "log").read_text())

    def stop(self) -> None:
        """Stop at once, as in a power cut: connections are cut, nothing is tidied up."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=PATIENCE_S)
            self.process = None

    def _accepts(self) -> bool:
        return not subprocess.run([self.programs / "pg_isready", "-q", "-h", self.folder], check=False).returncode

    def url(self, schema: str = "public", user: str = "postgres", password: str = PASSWORD, more: str = "") -> str:
        """The URL of a schema; more: further settings, such as "-cwork_mem=64MB"."""
        options = quote(f"-csearch_path={schema} {more}")
        return f"postgresql://{user}:{quote(password, safe='')}@/postgres?host={self.folder}&options={options}"

    def execute(self, statement: str) -> None:
        """Run one statement as the superuser."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def new_schema(self) -> str:
        """Create an empty schema, which takes far less time than a database, and return its name."""
        name = f"line{next(self.names)}"
        self.execute(f"CREATE SCHEMA {name}")
        return name


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running server."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'edge-agent[postgresql]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = "postgres"
        try:
            pwd.getpwnam(user)
        except KeyError:
            pytest.skip("PostgreSQL needs a user to run as: create the user postgres, or do not run the tests as root")
    # Not pytest's tmp_path: only its owner may enter that, and socket paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="edge-agent-postgresql-"))
    server = Server(Path(initdb).parent, folder, user)
    try:
        folder.chmod(0o755)
        (folder / "password").write_text(PASSWORD)
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        options = ["--username=postgres", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--encoding=UTF8"]
        subprocess.run(
            [initdb, "-D", folder / "data", "--no-sync", "--no-locale", *options],
            check=True,
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def postgresql_url(postgresql: Server) -> str:
    """The URL of an empty schema on a running server."""
    return postgresql.url(postgresql.new_schema())


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a journal that does not exist yet, in each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/journal.db"
    found: str = request.getfixturevalue("postgresql_url")
    return found
