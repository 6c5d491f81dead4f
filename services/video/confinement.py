"""Takes from the process that calls it what it needs no more: the files of the machine, its network, new privileges.

Linux only, and only as far as the kernel goes (Landlock, from 5.13 on; its documentation is
`Documentation/userspace-api/landlock.rst`). What cannot be given up is not an error: the process is separate
all the same.
"""

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1
_LANDLOCK_RULE_PATH_BENEATH: Final = 1

# Rights that each version of Landlock knows, as bits: files; connections; sockets without a path and signals.
_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_FILE_RIGHTS_NEWEST: Final = (1 << 16) - 1
_READ_FILE_AND_DIRECTORY: Final = 0b1100
_NETWORK_RIGHTS: Final = 0b11
_NETWORK_FROM: Final = 4
_SCOPES: Final = 0b11
_SCOPES_FROM: Final = 6


class _RulesetAttributes(ctypes.Structure):
    """`struct landlock_ruleset_attr`."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttributes(ctypes.Structure):
    """`struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def give_up_files_and_network(readable: Iterable[Path]) -> bool:
    """Open no file, write none, connect nowhere from now on; what is open stays so. Whether the kernel holds us to it.

    What lies under the `readable` directories can still be read. Nothing is written into files even where the kernel
    has no Landlock.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    version = library.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    attributes = _RulesetAttributes(_FILE_RIGHTS.get(version, _FILE_RIGHTS_NEWEST))
    if version >= _NETWORK_FROM:
        attributes.handled_access_net = _NETWORK_RIGHTS
    if version >= _SCOPES_FROM:
        attributes.scoped = _SCOPES
    # Fields that an older kernel does not know are zero, which it takes.
    ruleset = library.syscall(
        _LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), 0
    )
    if ruleset < 0:
        return False
    try:
        for directory in readable:
            _allow(library, ruleset, directory)
        # What no rule allows is forbidden.
        return bool(library.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(library: ctypes.CDLL, ruleset: int, directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = _PathBeneathAttributes(_READ_FILE_AND_DIRECTORY, descriptor)
            library.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(descriptor)
