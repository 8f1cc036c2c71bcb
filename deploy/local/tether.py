"""Runs a command that the kernel ends when its parent dies, as another identity where the command refuses root.

It runs as a script of its own, before the command takes its place, because nothing of this may be done safely between
fork and exec in a process that has threads (gRPC's, for one):

    python -I -S tether.py PARENT_PID SIGNAL IDENTITY COMMAND [ARGUMENT …]

IDENTITY is one of

    same       whoever the parent is
    nobody     the user `nobody`
    reach      the user `nobody`, who may still pass through directories closed to it (CAP_DAC_OVERRIDE)
    namespace  root, who looks like `nobody` to the command by way of a user namespace
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUSER = 0x10000000

_GIVEN_UP = 126


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _call(libc: ctypes.CDLL, function: str, *arguments: object) -> None:
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _become_nobody() -> None:
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)


def _become_nobody_with_reach(libc: ctypes.CDLL) -> None:
    _call(libc, "prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    _become_nobody()
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    only = 1 << _CAP_DAC_OVERRIDE
    data = (_CapabilityData * 2)(_CapabilityData(only, only, only), _CapabilityData(0, 0, 0))
    _call(libc, "capset", ctypes.byref(header), data)
    _call(libc, "prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _enter_namespace(libc: ctypes.CDLL) -> None:
    nobody = pwd.getpwnam("nobody")
    _call(libc, "unshare", _CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} 0 1")
    Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} 0 1")


def main() -> None:
    """Takes on the identity, ties itself to the parent and becomes the command."""
    parent, signal, identity, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if identity == "nobody":
        _become_nobody()
    elif identity == "reach":
        _become_nobody_with_reach(libc)
    elif identity == "namespace":
        _enter_namespace(libc)
    if sys.platform == "linux":
        # After the change of identity, which would clear it.
        _call(libc, "prctl", _PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(_GIVEN_UP)  # the parent died before the tie was made
    os.execv(command[0], command)  # noqa: S606 - the command comes from the parent, as in subprocess


if __name__ == "__main__":
    try:
        main()
    except (OSError, KeyError) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        sys.exit(_GIVEN_UP)
