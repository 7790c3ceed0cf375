# SPDX-License-Identifier: Apache-2.0
"""KVM where it runs guests, emulation where it does not."""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

from lab.directory import cache_directory

_DEVICE = Path('/dev/kvm')

# Of sched.h and sys/mount.h.
_CLONE_NEWNS = 0x20000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000

# A boot sector that counts down from 2^24 and reports to isa-debug-exit.
# The loop matters: where KVM is nested in a hypervisor without the
# extensions for it, every instruction is emulated, a dozen instructions pass
# and a Linux kernel never comes up.
_COUNT_AND_EXIT = bytes.fromhex(
    '66b900000001'  # mov ecx, 1 << 24
    '6649'  # again: dec ecx
    '75fc'  # jnz again
    'ba0105'  # mov dx, 0x501, the port of isa-debug-exit
    'b010'  # mov al, 0x10
    'ee'  # out dx, al
    'f4ebfd'  # hlt for ever
)
_BOOT_SECTOR = _COUNT_AND_EXIT.ljust(510, b'\0') + b'\x55\xaa'

# QEMU's exit status after 0x10 was written: (value << 1) | 1.
_GUEST_RAN = 0x10 << 1 | 1

# A working KVM needs 0.3 s for it, firmware included.
_PROBE_TIMEOUT = 4.0


def domain_type() -> str:
    """Return the domain type to use here: ``kvm`` or ``qemu``.

    The answer is kept in the cache for as long as this host is up, because
    finding that KVM does not work takes seconds.
    """
    boot_id = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    answer = cache_directory() / f'accelerator-{os.geteuid()}-{boot_id}'
    if not answer.exists():
        fresh = answer.with_suffix(f'.{os.getpid()}')
        fresh.write_text('kvm' if _kvm_runs_guests() else 'qemu')
        fresh.rename(answer)
    return answer.read_text()


def hide_kvm() -> None:
    """Have no KVM in this thread, nor in what it starts; for root alone.

    :raises OSError: the kernel refuses it
    """
    if not _DEVICE.exists():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.NamedTemporaryFile() as nothing:
        _require(libc.unshare(_CLONE_NEWNS))
        _require(libc.mount(None, b'/', None, _MS_REC | _MS_SLAVE, None))
        source, target = os.fsencode(nothing.name), os.fsencode(_DEVICE)
        _require(libc.mount(source, target, None, _MS_BIND, None))


def _require(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(_DEVICE))


def _kvm_runs_guests() -> bool:
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return False
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(_BOOT_SECTOR)
        disk.flush()
        try:
            qemu = subprocess.run(
                [
                    'qemu-system-x86_64',
                    '-accel',
                    'kvm',
                    '-m',
                    '8',
                    '-nodefaults',
                    '-display',
                    'none',
                    '-no-reboot',
                    '-device',
                    'isa-debug-exit',
                    '-drive',
                    f'file={disk.name},format=raw,if=ide',
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PROBE_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return qemu.returncode == _GUEST_RAN
