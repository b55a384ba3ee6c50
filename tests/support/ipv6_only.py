"""Runs a command on a machine whose loopback interface has no IPv4, and which has no other interface.

Run as `unshare --net python ipv6_only.py COMMAND ...`, by root: the new network namespace is the machine.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys

SET_FLAGS, SET_ADDRESS = 0x8914, 0x8916
"""SIOCSIFFLAGS and SIOCSIFADDR of Linux."""
IFF_UP = 1
REQUEST_BYTES = 40
"""Size of `struct ifreq`."""
COMMAND = ("unshare", "--net", sys.executable, "-P", __file__)


def is_allowed() -> bool:
    """Return whether this process may make a network namespace."""
    try:
        return subprocess.run([*COMMAND, "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def main() -> None:
    """Start the loopback interface, remove its IPv4 address, and become the command."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.pack("16sH", b"lo", IFF_UP).ljust(REQUEST_BYTES, b"\0")
        fcntl.ioctl(control, SET_FLAGS, flags)
        address = struct.pack("16sHH4s", b"lo", socket.AF_INET, 0, bytes(4))
        fcntl.ioctl(control, SET_ADDRESS, address.ljust(REQUEST_BYTES, b"\0"))
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command of a test


if __name__ == "__main__":
    main()
