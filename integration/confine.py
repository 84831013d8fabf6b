#!/usr/bin/python3
"""Runs a program as a unit's SystemCallFilter=, RestrictAddressFamilies=, NoNewPrivileges= and LimitNOFILE= would have it.

Usage: confine.py UNIT PROGRAM. The filter's groups are those of the systemd that is installed here.
"""
import errno
import os
import resource
import socket
import subprocess
import sys

import seccomp

unit, program = sys.argv[1:]
settings = [line.strip().split("=", 1) for line in open(unit) if "=" in line and not line.startswith("#")]


def values(name):
    return [value for key, value in settings if key == name]


def members(group):
    """The system calls of a group, and of the groups in it."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager", group], capture_output=True, check=True, text=True)
    calls = set()
    for line in text.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            calls |= members(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


allowed = set(members("@default"))
for value in values("SystemCallFilter"):
    groups = value.lstrip("~").split()
    calls = set().union(*(members(word) if word.startswith("@") else {word} for word in groups))
    allowed = allowed - calls if value.startswith("~") else allowed | calls

families = [getattr(socket, family) for value in values("RestrictAddressFamilies") for family in value.split()]
filter_ = seccomp.SyscallFilter(defaction=seccomp.ERRNO(errno.EPERM))
for call in sorted(allowed):
    try:
        if call == "socket":
            for family in families:
                filter_.add_rule(seccomp.ALLOW, call, seccomp.Arg(0, seccomp.EQ, int(family)))
        else:
            filter_.add_rule(seccomp.ALLOW, call)
    except (RuntimeError, ValueError, OSError):
        # A call that this machine does not have.
        pass

limit = int(values("LimitNOFILE")[0])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
# libseccomp sets no_new_privs itself when it loads a filter.
filter_.load()
os.execv(program, [program])
