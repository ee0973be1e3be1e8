"""A private PostgreSQL cluster: a Unix socket only, no port, in a folder of ours.

PostgreSQL refuses to run as root; then the cluster belongs to the account `postgres` that Debian's package made.
"""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from .processes import Failed, children_of, end_leftover, is_alive, run, start, stop, wait_until

SOCKET_PATH_BYTES_MAX = 107 - len("/.s.PGSQL.5432.lock")

SETTINGS = """
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 128MB
jit = off
log_min_messages = warning
logging_collector = off
"""
# Processes die in tests, machines do not: what the kernel has is durable enough, and far quicker.
NOT_DURABLE = """
fsync = off
full_page_writes = off
max_wal_size = 4GB
"""


def programs():
    """The folder of initdb and postgres; 15 or later."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found or int(found[-1].parts[-3]) < 15:
        raise Failed("PostgreSQL 15 or later is not installed")
    return found[-1].parent


def _account():
    """The account to run under: None for our own, else the passwd entry of `postgres`."""
    return pwd.getpwnam("postgres") if os.getuid() == 0 else None


def _reachable(folder, account):
    """Whether @account may pass every folder on the way to @folder."""
    if account is None:
        return True
    for parent in [folder, *folder.parents]:
        try:
            status = parent.stat()
        except FileNotFoundError:
            continue
        if status.st_uid != account.pw_uid and not status.st_mode & 0o001:
            return False
    return True


def home_for(wanted):
    """@wanted if PostgreSQL's account can reach it and a socket fits in, else a fixed place in /var/tmp."""
    wanted = Path(wanted).absolute()
    if _reachable(wanted.parent, _account()) and len(str(wanted).encode()) < SOCKET_PATH_BYTES_MAX:
        return wanted
    mark = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    return Path(f"/var/tmp/chancery-{os.getuid()}-{mark}")


def psql(conninfo, text):
    """Run SQL; the rows come back as lines of tab-separated text."""
    options = ["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]
    return run([programs() / "psql", *options, "-d", conninfo, "-c", text]).strip()


class Cluster:
    """Start it, use `conninfo`, stop it.  A kept @home is found again; without one it is temporary and fast."""

    def __init__(self, home=None, durable=True):
        self.temporary = home is None
        self.home = Path(tempfile.mkdtemp(prefix="chancery-pg-", dir="/tmp")) if home is None else home_for(home)
        self.data = self.home / "data"
        self.log = self.home / "log"
        self.durable = durable
        self.account = _account()
        self.process = None

    @property
    def superuser(self):
        return "postgres"

    def conninfo(self, database="postgres", user=None):
        return f"host={self.home} user={user or self.superuser} dbname={database}"

    def _as_account(self):
        if self.account is None:
            return {"cwd": "/"}
        return {"cwd": "/", "user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def start(self):
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.account is not None:
            os.chown(self.home, self.account.pw_uid, self.account.pw_gid)
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            try:
                end_leftover(int(pid_file.read_text().split("\n", 1)[0]), self.data)
            except ValueError:
                pass
        if not (self.data / "PG_VERSION").exists():
            shutil.rmtree(self.data, ignore_errors=True)
            run(
                [programs() / "initdb", "-D", self.data, "-U", self.superuser, "-A", "trust", "-E", "UTF8"]
                + ["--locale=C", "--no-sync", "--no-instructions"],
                **self._as_account(),
            )
        settings = SETTINGS + f"unix_socket_directories = '{self.home}'\n" + ("" if self.durable else NOT_DURABLE)
        (self.data / "postgresql.auto.conf").write_text(settings)
        with open(self.log, "ab") as log:
            self.process = start(
                [programs() / "postgres", "-D", self.data], stdout=log, stderr=log, **self._as_account()
            )
        try:
            wait_until(self._answers, "PostgreSQL does not start", process=self.process)
        except Failed as failure:
            raise Failed(f"{failure}\n{self.log.read_text()[-2000:]}") from None
        return self

    def _answers(self):
        ready = subprocess.run(
            [programs() / "pg_isready", "-q", "-h", self.home], stdin=subprocess.DEVNULL, check=False
        )
        return ready.returncode == 0

    def sql(self, text, database="postgres", user=None):
        return psql(self.conninfo(database, user), text)

    def create_database(self, name):
        """Create it unless it is there."""
        if not self.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            self.sql(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")

    def create_role(self, name):
        """A role that owns nothing, for the process that serves; unless it is there."""
        if not self.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
            self.sql(f'CREATE ROLE "{name}" LOGIN')

    def role(self, name):
        return name

    def kill(self):
        """As a crash would: no shutdown of any kind, children included (each of them leads a session of its own).
        A new PostgreSQL refuses to start while an old child still holds the shared memory."""
        os.kill(self.process.pid, signal.SIGSTOP)  # no new child, and none reaped, while we look
        children = children_of(self.process.pid)
        for pid in [*children, self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not any(map(is_alive, children)), "PostgreSQL's processes do not end")

    def stop(self):
        if self.process is not None:
            # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
            stop(self.process, first=signal.SIGINT)
            self.process = None
        if self.temporary:
            shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class Given:
    """The cluster that CHANCERY_TEST_DATABASE names.  Each database made here is dropped by drop_all()."""

    def __init__(self):
        self.base = os.environ["CHANCERY_TEST_DATABASE"]
        self.suffix = f"_{os.getpid()}"
        self.made = []
        self.roles = []

    def conninfo(self, database="postgres", user=None):
        words = [word for word in self.base.split() if not word.startswith("dbname=")]
        if user is not None:
            words = [word for word in words if not word.startswith("user=")] + [f"user={user}"]
        name = database if database == "postgres" else database + self.suffix
        return " ".join(words + [f"dbname={name}"])

    def sql(self, text, database="postgres", user=None):
        return psql(self.conninfo(database, user), text)

    def create_database(self, name):
        if name not in self.made:
            psql(
                self.conninfo(),
                f"CREATE DATABASE \"{name}{self.suffix}\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
            )
            self.made.append(name)

    def role(self, name):
        return name + self.suffix

    def create_role(self, name):
        if name not in self.roles:
            psql(self.conninfo(), f'CREATE ROLE "{self.role(name)}" LOGIN')
            self.roles.append(name)

    def drop_all(self):
        for name in self.made:
            psql(self.conninfo(), f'DROP DATABASE IF EXISTS "{name}{self.suffix}" WITH (FORCE)')
        for name in self.roles:
            psql(self.conninfo(), f'DROP ROLE IF EXISTS "{self.role(name)}"')
        self.made.clear()
        self.roles.clear()
