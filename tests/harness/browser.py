"""Debian's Chromium, headless, with an official's certificate in its own NSS database.

The browser picks the certificate itself, by the policy AutoSelectCertificateForUrls that agencies roll out;
no test tool's TLS stands between.  Policies live under /etc, so this needs root.
"""

import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.parse
from pathlib import Path

from .processes import Failed, run, start, stop

POLICIES = Path("/etc/chromium/policies/managed")


def why_not():
    """None when the browser can be used here, else the reason in words."""
    if shutil.which("chromium") is None or shutil.which("certutil") is None:
        return "chromium or certutil is not installed"
    if os.getuid() != 0:
        return "the browser's policy folder under /etc needs root"
    return None


class Landing:
    """A page on loopback to which the log-in returns: it keeps the query of the first visit."""

    def __init__(self):
        landing = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802 (the library's name)
                url = urllib.parse.urlsplit(self.path)
                if url.path == "/landed":
                    landing.query = dict(urllib.parse.parse_qsl(url.query))
                    landing.arrived.set()
                body = b"<!doctype html><title>landed</title><p>landed"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.query = {}
        self.arrived = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/landed"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Browser:
    """One person's browser: @p12 (or no certificate), trusting @authority for servers."""

    def __init__(self, authority, p12=None, pass_phrase="chancery", sites=(), issuer_name=None):
        self.home = Path(tempfile.mkdtemp(prefix="chancery-browser-", dir="/tmp"))
        database = self.home / ".pki/nssdb"
        database.mkdir(parents=True)
        nss = f"sql:{database}"
        run(["certutil", "-N", "-d", nss, "--empty-password"])
        run(["certutil", "-A", "-d", nss, "-t", "C,,", "-n", "servers", "-i", authority])
        self.policy = POLICIES / f"chancery-{self.home.name}.json"
        if p12 is not None:
            run(["pk12util", "-i", p12, "-d", nss, "-W", pass_phrase, "-K", ""])
            POLICIES.mkdir(parents=True, exist_ok=True)
            chosen = {"ISSUER": {"CN": issuer_name}} if issuer_name else {}
            rules = [json.dumps({"pattern": site, "filter": chosen}) for site in sites]
            self.policy.write_text(json.dumps({"AutoSelectCertificateForUrls": rules}))
            self.policy.chmod(0o644)

    def command(self, *arguments):
        return [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--password-store=basic", "--disable-extensions", "--mute-audio",
            f"--user-data-dir={self.home}/profile", *arguments,
        ]  # fmt: skip

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {**kept, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config")}

    def visit(self, url, landing=None, *, timeout_s=60):
        """Open @url.  With a Landing, return the query it was reached with; else the page's DOM as text."""
        if landing is None:
            done = subprocess.run(
                self.command("--virtual-time-budget=5000", "--dump-dom", url),
                env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=timeout_s, check=False,
            )  # fmt: skip
            return done.stdout
        log = self.home / "log"
        with open(log, "wb") as output:
            process = start(
                self.command("--remote-debugging-port=0", url), env=self.environment(), stdout=output, stderr=output
            )
        try:
            if not landing.arrived.wait(timeout_s):
                raise Failed(f"the browser did not come back within {timeout_s} s:\n{log.read_text()[-2000:]}")
            return landing.query
        finally:
            stop(process)

    def close(self):
        self.policy.unlink(missing_ok=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
