#!/usr/bin/env python3
"""docs/chancery.1 out of what `chancery --help` and each command's --help say.

    python3 tests/harness/man_page.py build/release/chancery > docs/chancery.1
"""

import re
import subprocess
import sys

HEAD = """\
.\\" Made by tests/harness/man_page.py from the program's own --help.
.TH CHANCERY 1 "" "Chancery" "User Commands"
.SH NAME
chancery \\- a Matrix homeserver for governments
.SH SYNOPSIS
.B chancery
.I COMMAND
.RI [ ARGUMENT\\ \\[u2026] ]
.SH DESCRIPTION
One program is the server and everything that its operators, identity officers and officials do from a terminal.
.B serve
runs the server;
.BR migrate ,
.BR found ,
.BR audit ,
.BR check\\-config ,
.B check\\-chain
and most of
.B partner
run beside it, with its configuration file.
.BR officer ,
.BR enrol ,
.B revoke
and
.B device
are an identity officer's, from any desk, and
.B login
is everybody's: they show a certificate to the server and need nothing else of it.
"""

TAIL = """\
.SH FILES
.TP
.I /etc/chancery/chancery.conf
The configuration file where
.B \\-\\-config
names none. docs/configuration.md explains every setting;
.B chancery check\\-config \\-\\-document
prints it.
.SH ENVIRONMENT
.TP
.B CHANCERY_PASSPHRASE
Opens the key of
.B \\-\\-p12
where no
.B \\-\\-passphrase\\-file
is given.
.SH EXIT STATUS
0: done. 1: failed, and standard error says why. 2: called wrongly.
"""


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "\\[u2026]").replace("“", "\\[lq]").replace("”", "\\[rq]")
    return "\\&" + text if text[:1] in (".", "'") else text


def said(program, *words):
    return subprocess.run([program, *words, "--help"], check=True, capture_output=True, text=True).stdout


def rows(text):
    """The table of a --help: (name, arguments, sentence)."""
    return re.findall(r"^  ([a-z][a-z-]*)(?: (.+))?\n      (.+)$", text, re.M)


def options(text):
    """The options of a --help: (option, sentence), without --help itself."""
    part = text.partition("Application Options:\n")[2]
    return re.findall(r"^  (-\S.*?) {2,}(.+)$", part, re.M)


def option_lines(pairs):
    for option, sentence in pairs:
        yield from (".TP", f".B {escape(option)}", escape(sentence))


def page(program):
    lines = []
    shared = {}  # the officers' commands have the same options: they are told once
    for name, arguments, sentence in rows(said(program)):
        text = said(program, name)
        pairs = options(text)
        verbs = re.findall(rf"^  chancery {name} ([a-z]+)(?: (.+))?\n      (.+)$", text, re.M) or rows(text)
        if verbs:
            lines += [f".SS chancery {escape(name)}", escape(sentence[0].upper() + sentence[1:]) + "."]
        else:
            lines += [f".SS chancery {escape(name)} {escape(arguments)}", escape(sentence[0].upper() + sentence[1:]) + "."]
        for verb, words, help_line in verbs:
            lines += [".TP", f".B {escape(' '.join([verb, words]).strip())}", escape(help_line)]
            if not pairs:
                lines += [".RS", *option_lines(options(said(program, name, verb))), ".RE"]
        if verbs and pairs:
            shared.setdefault(tuple(pairs), []).append(name)
        else:
            lines += option_lines(pairs)
    for pairs, names in shared.items():
        lines += [f".SS Options of {', '.join(names[:-1])} and {names[-1]}", *option_lines(pairs)]
    return HEAD + ".SH COMMANDS\n" + "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    print(page(sys.argv[1]), end="")
