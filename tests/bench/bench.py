"""`make bench`: the figures of this machine, beside what PostgreSQL alone does there and then."""

import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.agency import program  # noqa: E402
from harness.pair import Pair  # noqa: E402
from harness.postgres import Cluster, programs  # noqa: E402
from harness.processes import ROOT, free_ports, run  # noqa: E402

SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
WAITING, PARKED = 200, 1000
DEVICES = 90  # of one person; a few less than the server allows
LOAD = program().parent / "tests/bench/load"


def load(agency, *arguments, **options):
    done = subprocess.run(
        ["timeout", "90", *(str(word) for word in (LOAD, *arguments))], env={**os.environ, "CHANCERY_CA": str(agency.authority)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options,
    )  # fmt: skip
    if done.returncode != 0 or not done.stdout:
        raise SystemExit(f"load {arguments[0]} ended with {done.returncode}: {done.stderr}")
    if done.stderr:
        print(f"    {done.stderr.strip()}")
    return json.loads(done.stdout)


def memory_mib(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def cpu_of(pid):
    """Seconds of CPU of a process and its children that live."""
    seconds = 0.0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if status.parent.name == str(pid) or fields[1] == str(pid):
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


class Spending:
    """The CPU time that server, database and load have taken since then, and everybody else on the machine."""

    def __init__(self, agency, cluster):
        self.agency, self.cluster = agency, cluster
        self.before = self.read()

    def read(self):
        own = os.times()
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return (
            cpu_of(self.agency.process.pid),
            cpu_of(self.cluster.process.pid),
            own.children_user + own.children_system,
            (sum(ticks[:3]) + sum(ticks[5:7])) / os.sysconf("SC_CLK_TCK"),
            time.monotonic(),
        )

    def each(self, requests):
        """One line: a request's share of it, which hardly depends on what else the machine does."""
        server, database, clients, all_cpu, wall = (now - then for now, then in zip(self.read(), self.before))
        others = max(0, all_cpu - server - database - clients) / (wall * os.cpu_count())
        shares = (f"{name} {1e6 * spent / requests:.0f} us" for name, spent in
                  (("server", server), ("PostgreSQL", database), ("load", clients)))  # fmt: skip
        return f"CPU each: {', '.join(shares)}; others had {others:.0%} of the cores"


def commits(cluster, event_bytes):
    """pgbench: one-row commits of as many bytes as an event has, by 32 clients."""
    cluster.create_database("pgbench")
    cluster.sql("DROP TABLE IF EXISTS line; CREATE TABLE line (id bigserial PRIMARY KEY, bytes bytea)", "pgbench")
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(f"INSERT INTO line (bytes) VALUES (decode(repeat('61', {event_bytes}), 'hex'));\n")
        script.flush()
        out = run(
            [programs() / "pgbench", "-n", "-M", "prepared", "-c", 32, "-j", 2, "-T", int(SECONDS)]
            + ["-f", script.name, "-h", cluster.home, "-U", cluster.superuser, "pgbench"]
        )
    return float(re.search(r"tps = ([\d.]+)", out).group(1))


def lines_of_c():
    for floor in ("storage", "identity", "federation", "server", "tests"):
        files = [path for path in (ROOT / floor).rglob("*.[ch]")]
        print(f"  {floor:12}{sum(len(path.read_text().splitlines()) for path in files):7} lines in {len(files)} files")


def build_time():
    with tempfile.TemporaryDirectory() as folder:
        run(["git", "clone", "-q", ROOT, folder])
        began = time.monotonic()
        run(["make", "-s", "build"], cwd=folder, timeout_s=900)
        return time.monotonic() - began


def main():
    os.environ["PYTHONUNBUFFERED"] = "1"
    sys.stdout.reconfigure(line_buffering=True)
    print("lines of C per floor")
    lines_of_c()
    print(f"build from nothing: {build_time():.0f} s on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="chancery-bench-", dir="/tmp") as folder, Cluster() as cluster:
        print("the writer lane alone, beside pgbench")
        lane = subprocess.run(
            [LOAD.parent / "bench_lane"], env={**os.environ, "CHANCERY_TEST_DATABASE": cluster.conninfo()},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        print("".join(f"  {line}\n" for line in lane.stdout.splitlines()), end="")
        kinds = ("client", "federation", "certificate")
        pair = Pair(Path(folder), cluster, {name: dict(zip(kinds, free_ports(3))) for name in ("alpha", "beta")}, rates=False)
        try:
            pair.start()
            alpha = pair.alpha
            alpha.stop()
            starts = []
            for _ in range(5):
                began = time.monotonic()
                alpha.start()
                starts.append((time.monotonic() - began) * 1000)
                alpha.stop()
            alpha.start()
            time.sleep(1)
            print(f"start to ready on an existing database: {min(starts):.0f} to {max(starts):.0f} ms (aim: under 300)")
            print(f"resident memory idle: {memory_mib(alpha.process):.1f} MiB (aim: under 20)")
            anna = alpha.login("anna")
            rooms = [anna.create_room(name=f"Room {number}") for number in range(100)]
            event = anna.get(f"rooms/{rooms[0]}/event/{anna.send(rooms[0], 'measure')}")
            event_bytes = len(json.dumps(event)) + 350
            print(f"acknowledged PUT /send, {SECONDS:.0f} s each; the load shares the cores")
            over_tls = load(alpha, "send", alpha.url, anna.access_token, 32, SECONDS, *rooms)
            alpha.stop()
            alpha.plain = True
            alpha.write_config()
            alpha.start()
            anna.close()
            # Before and after: what else the machine does changes from minute to minute.
            plain = [commits(cluster, event_bytes)]
            best = 0
            for count, where in ((1, "1 room"), (100, "100 rooms")):
                for senders in (1, 4, 32):
                    spending = Spending(alpha, cluster)
                    figure = load(alpha, "send", alpha.url, anna.access_token, senders, SECONDS, *rooms[:count])
                    best = max(best, figure["per_second"]) if senders == 32 else best
                    print(
                        f"  {where:10} {senders:2} senders: {figure['per_second']:6.0f}/s, p50 {figure['p50_ms']:.1f} ms, "
                        f"p99 {figure['p99_ms']:.1f} ms" + (f", {figure['refused']} refused" if figure["refused"] else "")
                    )
                    if senders == 32:
                        print(f"    {spending.each(figure['acknowledged'])}")
            print(f"  100 rooms  32 senders over TLS: {over_tls['per_second']:6.0f}/s, p50 {over_tls['p50_ms']:.1f} ms")
            plain.append(commits(cluster, event_bytes))
            print(
                f"  pgbench, one-row commits of {event_bytes} bytes, 32 clients: "
                f"{plain[0]:.0f}/s before, {plain[1]:.0f}/s after"
            )
            print(f"  best of 32 senders / mean of pgbench: {2 * best / sum(plain):.2f} (aim: above 0.5)")
            print(f"resident memory after that: {memory_mib(alpha.process):.1f} MiB (the rooms' caches are bounded)")
            alpha.stop()
            alpha.start()
            print(f"  ({PARKED} log-ins, a device each: one parked sync a device)", flush=True)
            clerks = [f"clerk{number}" for number in range(-(-PARKED // DEVICES))]
            for clerk in clerks:
                alpha.make_pki("person", clerk)
                alpha.enrol(clerk)
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                sessions = list(pool.map(lambda number: alpha.login(clerks[number // DEVICES]), range(PARKED)))
            tokens = [session.access_token for session in sessions]
            anna = alpha.login("anna")
            for session in sessions[:WAITING:DEVICES]:
                anna.invite(rooms[0], session.user_id)
                session.join(rooms[0])
            figure = load(alpha, "fanout", alpha.url, anna.access_token, 10, rooms[0], *tokens[:WAITING])
            print(
                f"one message to {figure['waiting']} waiting syncs, time to the last: p50 {figure['last_p50_ms']:.1f} ms, "
                f"worst {figure['last_worst_ms']:.1f} ms (aim: under 20)"
            )
            parked = subprocess.Popen(
                [str(word) for word in ("timeout", 90, LOAD, "park", alpha.url, PARKED, 20, *tokens)],
                env={**os.environ, "CHANCERY_CA": str(alpha.authority)}, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            parked.stdout.readline()
            print(f"resident memory with {PARKED} parked syncs: {memory_mib(alpha.process):.1f} MiB")
            parked.kill()
            parked.wait()
        finally:
            pair.stop()


if __name__ == "__main__":
    main()
