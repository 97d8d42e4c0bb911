"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, gone when the tests end."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path


def _program(name: str) -> str | None:
    folders = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))


def missing() -> str | None:
    """Why there can be no server; None where there can."""
    for name in ("initdb", "postgres"):
        if _program(name) is None:
            return f"no PostgreSQL on this machine ({name} not found): apt-get install postgresql"
    if os.getuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no other user here"
    return None


def _user() -> pwd.struct_passwd | None:
    """The user that the server runs as, where we are root."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


class Server:
    """A running cluster."""

    def __init__(self, *, durable: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        user = _user() if os.getuid() == 0 else None
        self._as = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        if user is not None:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", "data", "-U", "tester", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        sync = "on" if durable else "off"
        settings = ("listen_addresses=", "unix_socket_directories=.", f"fsync={sync}", "max_connections=200")
        options = [word for setting in settings for word in ("-c", setting)]
        command = [_program("postgres") or "", "-D", "data", *options]
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self._as)
        # `unix_socket_directories` is relative to the data folder.
        self.socket = self.folder / "data" / ".s.PGSQL.5432"
        deadline = time.monotonic() + 60  # a second, on a machine with nothing else to do
        while self._process.poll() is None and time.monotonic() < deadline:
            if self.socket.exists() and self._answers():
                return
            time.sleep(0.05)
        log_text = (self.folder / "server.log").read_text()
        self.stop()
        raise AssertionError("PostgreSQL did not start: " + log_text)

    def _run(self, name: str, *words: str) -> None:
        command = [_program(name) or "", *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **self._as)
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        import pg8000.exceptions

        try:
            self._execute("SELECT 1")
        except (pg8000.exceptions.DatabaseError, pg8000.exceptions.InterfaceError, OSError):
            return False  # it is starting up: refused, or hung up on
        return True

    def _execute(self, *statements: str) -> None:
        import pg8000.native

        connection = pg8000.native.Connection("tester", database="postgres", unix_sock=str(self.socket))
        for statement in statements:
            connection.run(statement)
        connection.close()

    def empty_database(self) -> str:
        """The URL of a database without tables: always the same one, emptied."""
        self._execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        return f"postgresql://tester@/postgres?unix_sock={self.socket}"

    def stop(self) -> None:
        """End the server at once and delete its folder."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder)
