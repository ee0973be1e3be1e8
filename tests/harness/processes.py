"""Child processes, each ended by its own id and never outliving us."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent():
    """In the child: a killed launcher takes its children with it."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Failed(Exception):
    """A step of the harness failed; the text says which and why."""


def start(command, **options):
    """Start @command in a process group of its own, so that a terminal's Ctrl-C reaches only us."""
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(
        [str(word) for word in command], preexec_fn=_end_with_parent, start_new_session=True, **options
    )


def stop(process, *, patience_s=15, first=signal.SIGTERM):
    """Ask @process to end, wait, and kill it if it does not.  Returns its exit status."""
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def _stat(pid):
    """State and parent of @pid; None when there is no such process."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return words[0], int(words[1])


def children_of(parent):
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if (_stat(pid) or ("", 0))[1] == parent]


def is_alive(pid):
    """Not gone, and not a zombie either."""
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def run(command, *, timeout_s=120, **options):
    """Run to the end; its output is in the error when it fails, and returned when it does not."""
    options.setdefault("stdin", subprocess.DEVNULL)
    command = [str(word) for word in command]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, **options
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout.strip()}")
    return done.stdout


def wait_until(condition, what, *, timeout_s=30, process=None):
    """Poll @condition; fail with @what when time is up or @process has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if process is not None and process.poll() is not None:
            raise Failed(f"{what}: the process ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {timeout_s} s")
        time.sleep(0.02)


def free_ports(count):
    """@count TCP ports of 127.0.0.1 that nobody listens on now."""
    held = []
    for _ in range(count):
        holder = socket.socket()
        holder.bind(("127.0.0.1", 0))
        held.append(holder)
    ports = [holder.getsockname()[1] for holder in held]
    for holder in held:
        holder.close()
    return ports


def port_is_free(port):
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def end_leftover(pid, marker, *, patience_s=10):
    """End process @pid if its command line still holds @marker: a leftover of a killed run, not a stranger."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return False
    if str(marker) not in command:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not Path(f"/proc/{pid}").exists():
                return True
            time.sleep(0.05)
    return True
