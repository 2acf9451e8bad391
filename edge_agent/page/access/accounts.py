"""Who may sign in to the page: names, roles and hashed passwords in one file that its owner alone can read."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from filelock import FileLock

from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.io.files import open_durably

SHORTEST, LONGEST = 10, 200  # characters of a password
FREE_FAILURES = 5  # in a row, before a name has to wait
FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 900.0
NAMES = 1000  # whose failures are remembered


class Role(IntEnum):
    """What an account may do; each may what those before it may.

    VIEWER: look. OPERATOR: label and acknowledge. ENGINEER: change thresholds and masks, and learn.
    """

    VIEWER = 1
    OPERATOR = 2
    ENGINEER = 3


@dataclass(frozen=True, slots=True)
class Account:
    """One account. role: the lower-case name of a Role. hash: of its password, by argon2id."""

    role: str
    hash: str

    @property
    def stamp(self) -> str:
        """Return what changes when the account's role or password does, so that its sessions end."""
        return hashlib.sha256(f"{self.role} {self.hash}".encode()).hexdigest()[:16]


class TooManyFailures(EdgeAgentError):
    """A name has to wait before it may sign in again."""


class Accounts:
    """The accounts of one file, read anew when it changes. Any thread may call every method."""

    def __init__(
        self, path: Path, hasher: PasswordHasher | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open the file, which need not exist yet.

        Args:
            path: of the file, in a folder of the agent's user.
            hasher: of passwords; default with the parameters that argon2-cffi recommends.
            clock: seconds; default time.monotonic.
        """
        self._path, self._hasher, self._clock = path, hasher or PasswordHasher(), clock
        self._failures: dict[str, tuple[int, float]] = {}  # in a row, and when the last one was
        self._verifying = threading.Lock()  # one at a time: each takes 64 MiB

    @cached_property
    def _nobody(self) -> str:
        """Return a hash that no password has."""
        return self._hasher.hash(secrets.token_hex())

    def find(self, name: str) -> Account | None:
        """Return the account of a name; None if there is none. Raises ConfigError if the file cannot be read."""
        return self._read()[0].get(name)

    def names(self) -> Mapping[str, Account]:
        """Return all accounts by name. Raises ConfigError if the file cannot be read."""
        return dict(sorted(self._read()[0].items()))

    def key(self) -> str:
        """Return the secret that sessions are signed with; empty while there is no account."""
        return self._read()[1]

    def put(self, name: str, role: str, password: str) -> None:
        """Add an account, or change its role and password; its sessions end.

        Args:
            name: as it is written into labels.
            role: viewer, operator or engineer.
            password: SHORTEST to LONGEST characters.

        Raises:
            ConfigError: the name or password will not do, or the file cannot be written.
        """
        if not name.isprintable() or not name.strip() == name or not 1 <= len(name) <= 64:
            raise ConfigError(f"{name!r} is no usable name: take 1 to 64 characters without space around them")
        if not SHORTEST <= len(password) <= LONGEST:
            raise ConfigError(f"the password has {len(password)} characters: take {SHORTEST} to {LONGEST}")
        with self._changing() as accounts:
            accounts[name] = Account(role, self._hasher.hash(password))

    def remove(self, name: str) -> None:
        """Remove an account; its sessions end. Raises ConfigError if there is none."""
        with self._changing() as accounts:
            if accounts.pop(name, None) is None:
                raise ConfigError(f"there is no account {name!r}")

    def check(self, name: str, password: str) -> Account | None:
        """Return the account if the password is its own; None if not, or if there is none, which takes as long.

        Raises TooManyFailures while the name has to wait: nothing is checked then.
        """
        wait_s = self._wait_s(name)
        if wait_s > 0:
            raise TooManyFailures(f"Too many failures: try again in {round(wait_s) or 1} s.")
        found = self.find(name)
        if self._is_right(found.hash if found else self._nobody, password) and found:
            self._failures.pop(name, None)
            return found
        self._note_failure(name)
        return None

    def _is_right(self, hash_: str, password: str) -> bool:
        with self._verifying:
            try:
                return self._hasher.verify(hash_, password[: LONGEST + 1])
            except (VerificationError, InvalidHashError):
                return False

    def _wait_s(self, name: str) -> float:
        count, last = self._failures.get(name, (0, 0.0))
        if count < FREE_FAILURES:
            return 0.0
        return last + min(FIRST_WAIT_S * 2.0 ** (count - FREE_FAILURES), LONGEST_WAIT_S) - self._clock()

    def _note_failure(self, name: str) -> None:
        count, _ = self._failures.pop(name, (0, 0.0))
        self._failures[name] = (count + 1, self._clock())  # at the end: the one that failed last
        while len(self._failures) > NAMES:
            self._failures.pop(next(iter(self._failures)))

    def _read(self) -> tuple[dict[str, Account], str]:
        try:
            held = json.loads(self._path.read_bytes())
            accounts = {
                str(name): Account(Role[one["role"].upper()].name.lower(), str(one["hash"]))
                for name, one in held["accounts"].items()
            }
            return accounts, str(held["key"])
        except FileNotFoundError:
            return {}, ""
        except OSError as error:
            raise ConfigError(f"page: {self._path}: {error.strerror}: let user {os.geteuid()} read it") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"page: {self._path} is damaged: delete it, and make the accounts anew") from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Account]]:
        """Give the accounts to be changed, and write them at the end, for the owner of the folder alone."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            with FileLock(f"{self._path}.lock", mode=0o600):
                accounts, key = self._read()
                yield accounts
                held = {
                    "accounts": {name: asdict(one) for name, one in accounts.items()},
                    "key": key or secrets.token_hex(32),
                }
                with open_durably(self._path) as file:
                    os.fchmod(file.fileno(), 0o600)
                    if os.geteuid() == 0:  # root makes accounts for the service's user
                        owner = os.stat(self._path.parent)
                        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                    file.write(json.dumps(held, indent=1).encode())
        except OSError as error:
            raise ConfigError(
                f"page: {self._path}: {error.strerror}: make accounts as a user who may write there"
            ) from error
