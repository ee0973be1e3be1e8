"""An unlisted name causes no connection and no name look-up, whichever way a client says it.

The server runs with a small library before libc that writes down each look-up and each connection.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from harness import agency as agency_module
from harness import tap
from harness.matrix import Refused, quote
from harness.pair import test_pair
from harness.processes import start

LISTENER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void note(const char *kind, const char *what)
{
    char line[300];
    int length = snprintf(line, sizeof line, "%s %s\n", kind, what);
    int file = open(getenv("NOTES_OF_CALLS"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length)
        abort();
    close(file);
}
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    if (hints == NULL || !(hints->ai_flags & AI_NUMERICHOST))
        note("look-up", name != NULL ? name : "");
    return real(name, service, hints, found);
}
struct hostent *gethostbyname(const char *name)
{
    struct hostent *(*real)(const char *) = dlsym(RTLD_NEXT, "gethostbyname");
    note("look-up", name);
    return real(name);
}
int connect(int descriptor, const struct sockaddr *address, socklen_t length)
{
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    char host[NI_MAXHOST], port[NI_MAXSERV], whole[NI_MAXHOST + NI_MAXSERV + 2];
    if (address->sa_family != AF_UNIX && getnameinfo(address, length, host, sizeof host, port, sizeof port,
                                                     NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(whole, sizeof whole, "%s:%s", host, port);
        note("connection", whole);
    }
    return real(descriptor, address, length);
}
"""


@unittest.skipIf(os.environ["CHANCERY_VARIANT"] == "asan", "the sanitizer must be the first library")
class Unlisted(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="chancery-test-", dir="/tmp")
        home = Path(self.folder.name)
        (home / "notes.c").write_text(LISTENER)
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", home / "notes.so", home / "notes.c", "-ldl"], check=True, timeout=60
        )
        self.notes = home / "notes"
        watched = {**os.environ, "LD_PRELOAD": str(home / "notes.so"), "NOTES_OF_CALLS": str(self.notes)}
        asks = [sys.executable, "-c", "import socket; socket.getaddrinfo('localhost', 1)"]
        subprocess.run(asks, env=watched, check=True, timeout=60)
        self.assertEqual(self.said(), ["look-up localhost"], "the notes are not taken")
        self.notes.unlink()
        unwatched = agency_module.start

        def start_watched(command, **options):
            return start(command, **({**options, "env": watched} if "alpha/chancery.conf" in str(command[-1]) else options))

        agency_module.start = start_watched
        try:
            self.pair = test_pair(home)
            self.pair.start()
        finally:
            agency_module.start = unwatched

    def tearDown(self):
        self.pair.end()
        self.folder.cleanup()

    def said(self):
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def test_no_path_leads_outside(self):
        """every request that can name a server, with names that are on nobody's list: no look-up, no connection"""
        pair = self.pair
        anna, berta = pair.alpha.login("anna"), pair.beta.login("berta")
        room_id = anna.create_room(preset="public_chat")
        anna.invite(room_id, berta.user_id)
        berta.wait_invited(room_id)
        berta.join(room_id, [pair.alpha.name])
        anna.wait_event(room_id, berta.send(room_id, "here"))
        listed = f"connection {pair.address_of(pair.beta)}"
        self.assertIn(listed, self.said(), "the notes are not taken")
        room = quote(room_id)
        count = 0
        for name in (
            "gamma.example", "localhost", f"localhost:{pair.beta.ports['federation']}", "127.0.0.1:1", "[::1]:8448", "one.one.one.one",
        ):  # fmt: skip
            person, alias, other = quote(f"@spy:{name}"), quote(f"#hall:{name}"), quote(f"!room:{name}")
            via = quote(name)
            v3, v1 = "/_matrix/client/v3/", "/_matrix/client/v1/"
            for method, path, body in [
                ("POST", f"{v3}rooms/{room}/invite", {"user_id": f"@spy:{name}"}),
                ("POST", f"{v3}createRoom", {"invite": [f"@spy:{name}"]}),
                ("POST", f"{v3}join/{alias}", {}), ("POST", f"{v3}join/{alias}?via={via}&server_name={via}", {}),
                ("POST", f"{v3}join/{other}?via={via}&server_name={via}", {}),
                ("POST", f"{v3}rooms/{other}/join", {}), ("POST", f"{v3}knock/{other}?via={via}&server_name={via}", {}),
                ("GET", f"{v3}directory/room/{alias}", None), ("GET", f"{v3}profile/{person}", None),
                ("GET", f"{v3}profile/{person}/displayname", None), ("GET", f"{v3}publicRooms?server={via}", None),
                ("POST", f"{v3}publicRooms?server={via}", {}), ("GET", f"{v1}room_summary/{other}?via={via}", None),
                ("GET", f"{v1}room_summary/{alias}?via={via}", None), ("GET", f"{v1}rooms/{other}/hierarchy", None),
                ("POST", f"{v3}keys/query", {"device_keys": {f"@spy:{name}": []}}),
                ("POST", f"{v3}keys/claim", {"one_time_keys": {f"@spy:{name}": {"DEVICE": "signed_curve25519"}}}),
                ("PUT", f"{v3}sendToDevice/m.dummy/{via}", {"messages": {f"@spy:{name}": {"*": {}}}}),
                ("POST", f"{v3}rooms/{room}/kick", {"user_id": f"@spy:{name}"}),
                ("POST", f"{v3}rooms/{room}/ban", {"user_id": f"@spy:{name}"}),
                ("PUT", f"{v3}rooms/{room}/state/m.room.member/{person}", {"membership": "invite"}),
                ("GET", f"{v3}rooms/{other}/messages?dir=b", None), ("GET", f"{v3}rooms/{other}/state", None),
                ("GET", f"{v3}user_directory/search", None), ("POST", f"{v3}user_directory/search", {"search_term": f"spy:{name}"}),
                ("GET", f"/_matrix/client/v1/media/download/{via}/abc", None),
                ("GET", f"{v3}presence/{person}/status", None),
            ]:  # fmt: skip
                count += 1
                try:
                    anna.request(method, path, body)
                except Refused as refusal:
                    self.assertIn(refusal.status, (400, 403, 404, 405), (method, path, refusal))
        anna.send(room_id, "after which delivery has gone on")
        berta.wait_event(room_id, anna.send(room_id, "the last word"))
        self.assertEqual([line for line in self.said() if line != listed], [])
        print(f"# figure: {count} requests that name unlisted servers: no look-up, no connection", flush=True)


tap.main()
