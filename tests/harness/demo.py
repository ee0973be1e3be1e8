"""`make run` and `make demo`: two agencies on loopback, from nothing to messages across.

usage: demo.py run|demo

Everything it keeps is under var/demo, PostgreSQL's cluster under var/postgres
(or both under $CHANCERY_DEMO_HOME).  Each step does only what
is not done yet, so a second run finds its data again.
"""

import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.agency import PASS_PHRASE  # noqa: E402
from harness.pair import OFFICIALS, Pair  # noqa: E402
from harness.postgres import Cluster  # noqa: E402
from harness.processes import ROOT, Failed, end_leftover, free_ports, port_is_free  # noqa: E402

VAR = Path(os.environ.get("CHANCERY_DEMO_HOME", ROOT / "var"))
HOME = VAR / "demo"
CRL_INTERVAL_S = float(os.environ.get("CHANCERY_DEMO_CRL_INTERVAL_S", 600))


class Stopped(Exception):
    """SIGINT or SIGTERM."""


def say(text):
    print(text, flush=True)


def kept_ports(names):
    """Ports of 127.0.0.1, chosen once: {"alpha": {"client": …}}.  Chosen again if a stranger holds one."""
    file = HOME / "ports.json"
    ports = json.loads(file.read_text()) if file.exists() else {}
    if ports and all(port_is_free(port) for agency in ports.values() for port in agency.values()):
        return ports
    if ports:
        say("a port of the last run is taken by another program: choosing new ones")
    fresh = iter(free_ports(3 * len(names)))
    ports = {name: {kind: next(fresh) for kind in ("client", "federation", "certificate")} for name in names}
    file.write_text(json.dumps(ports, indent=2) + "\n")
    return ports


def clean_leftovers():
    """Servers of a killed run, known by their recorded ids and by our folder in their command line."""
    file = HOME / "pids.json"
    if file.exists():
        for pid in json.loads(file.read_text()):
            if end_leftover(pid, HOME):
                say(f"ended process {pid}, a leftover of an earlier run")
        file.unlink()


def renew(pair, stopping):
    """While the demonstration runs, its CAs sign a fresh CRL every 10 minutes, and renew what is near its end."""
    while not stopping.wait(CRL_INTERVAL_S):
        for agency in pair.agencies:
            try:
                agency.make_pki("crl")
                for person in OFFICIALS[agency.short]:
                    agency.make_pki("person", person, "--if-needed")
                    agency.enrol(person)
            except Failed as failure:
                say(f"{agency.name}: {failure}")


def tell(pair):
    alpha, beta = pair.agencies
    say("")
    for agency in pair.agencies:
        say(f"{agency.name}")
        say(f"  homeserver for clients    {agency.url}")
        say(f"  certificate listener      {agency.certificate_url}")
        say(f"  CA of the servers         {agency.authority}")
        for person in OFFICIALS[agency.short]:
            say(f"  {agency.user_id(person):24}  {agency.p12(person)}")
        say(f"  officers                  {', '.join(str(agency.p12(officer)) for officer in agency.officers)}")
        say(f"  log                       {agency.log}")
    say("")
    say(f"pass phrase of every .p12 file: {PASS_PHRASE}")
    say("")
    say("log in from the terminal:")
    say(f"  {alpha.login_command('anna')}")
    say("log in from Element: import the CA of the servers and an official's .p12 file into the browser, give")
    say(f"  {alpha.url} as homeserver, and choose to continue with single sign-on.")
    say("  The log-in returns to an Element that is served on this machine, on any port; others are listed in")
    say(f"  {alpha.config} under redirect_urls.")


def main(mode):
    began = time.monotonic()
    HOME.mkdir(parents=True, exist_ok=True)
    lock = open(HOME / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"the demonstration runs already in {HOME}")

    def on_signal(number, _):
        raise Stopped(signal.Signals(number).name)

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    cluster = Cluster(VAR / "postgres")
    pair = None
    stopping = threading.Event()
    status = 0
    try:
        clean_leftovers()
        say(f"PostgreSQL: private cluster in {cluster.home}")
        cluster.start()
        pair = Pair(HOME, cluster, kept_ports(["alpha", "beta"]), say=say)
        pair.start()
        (HOME / "pids.json").write_text(json.dumps([agency.process.pid for agency in pair.agencies]))
        messages = pair.exchange()
        refused = pair.besiege()
        say(f"gamma.example: {refused.tried} ways in tried, {len(refused.accepted)} accepted; "
            f"{refused.visits} connections made to it")  # fmt: skip
        if refused.accepted or refused.visits:
            raise Failed("\n".join(["gamma.example got somewhere:", *refused.accepted]))
        if mode == "run":
            threading.Thread(target=renew, args=(pair, stopping), daemon=True).start()
            tell(pair)
            say(f"\nready: {messages} messages exchanged, gamma refused")
            say(f"({time.monotonic() - began:.0f} s; Ctrl-C stops all)")
            while True:
                pair.watch(1)
    except Stopped as stopped:
        say(f"stopping ({stopped})")
    except Exception as failure:  # noqa: BLE001 (said, then everything is stopped)
        say(f"failed: {failure or repr(failure)}")
        status = 1
    # A second Ctrl-C must not leave anything behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stopping.set()
    if pair is not None:
        for name, ended in pair.stop().items():
            if ended not in (0, None):
                say(f"{name} ended with {ended}")
                status = 1
        (HOME / "pids.json").unlink(missing_ok=True)
    cluster.stop()
    if mode == "demo" and status == 0:
        say(f"demo: {messages} messages exchanged, gamma refused")
    return status


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("run", "demo"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
