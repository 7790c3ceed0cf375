# SPDX-License-Identifier: Apache-2.0
"""The laws that hold after every snapshot, successful or failed.

::

    before = Before.of(connection, 'web-1')
    ...
    self.assertEqual([], differences(connection, before, directories))
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import os
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import libvirt
import libvirt_qemu

from nova_snapshot_driver.hypervisor.checkpoints import PREFIX
from nova_snapshot_driver.state import ledger
from nova_snapshot_driver.takings import registry
from nova_snapshot_driver.takings.tools import UndoTools

_DEFINITION = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE

#: Seconds in which an agent answers, if it answers at all.
_AGENT_TIMEOUT = 10

_AGENT_CHANNEL = 'org.qemu.guest_agent.0'

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: 'running',
    libvirt.VIR_DOMAIN_BLOCKED: 'running',
    libvirt.VIR_DOMAIN_PAUSED: 'paused',
    libvirt.VIR_DOMAIN_SHUTOFF: 'shut off',
}


def agent_says_frozen(domain: Any) -> bool | None:
    """Whether the guest agent has the file systems frozen.

    :returns: None where no agent answers
    """
    # The agent answers this one question while it has them frozen.
    question = json.dumps({'execute': 'guest-fsfreeze-status'})
    try:
        answer = libvirt_qemu.qemuAgentCommand(
            domain, question, _AGENT_TIMEOUT, 0
        )
    except libvirt.libvirtError:
        return None
    return bool(json.loads(answer)['return'] == 'frozen')


@dataclasses.dataclass(frozen=True)
class Directories:
    """Where a snapshot has its files.

    :ivar output: where a snapshot is written that does not go to Glance
    """

    snapshots: str
    state: str
    output: str | None = None


@dataclasses.dataclass(frozen=True)
class Before:
    """The state of a domain before a snapshot.

    :ivar definition: the inactive document, with secrets, canonical; None of
        a transient domain
    :ivar state: for example ``running``
    :ivar saved: it has a managed save
    :ivar host_devices: what is passed through to the running guest, each as
        its canonical ``<source>``. libvirt gives a device that is attached
        again another alias.
    :ivar agent_channel: there is a channel for the guest agent
    """

    name: str
    uuid: str
    definition: str | None
    autostart: bool
    state: str
    saved: bool
    host_devices: tuple[str, ...]
    agent_channel: bool

    @classmethod
    def of(cls, connection: Any, name: str) -> Before:
        """:param name: of a domain that exists"""
        domain = connection.lookupByName(name)
        persistent = domain.isPersistent()
        state, _reason = domain.state()
        return cls(
            name=domain.name(),
            uuid=domain.UUIDString(),
            definition=_canonical(domain.XMLDesc(_DEFINITION))
            if persistent
            else None,
            autostart=bool(domain.autostart()),
            state=_STATES.get(state, f'state {state}'),
            saved=bool(domain.hasManagedSaveImage()),
            host_devices=_host_devices(domain) if domain.isActive() else (),
            agent_channel=_AGENT_CHANNEL in domain.XMLDesc(),
        )


def differences(
    connection: Any,
    before: Before,
    directories: Directories,
    is_frozen: Callable[[Any], bool | None] = agent_says_frozen,
) -> list[str]:
    """The differences that a snapshot has left.

    :param is_frozen: whether the file systems of a domain's guest are
        frozen, None where that can't be told
    :returns: sentences for a person; none where all laws hold
    """
    return [
        *_of_domain(connection, before, is_frozen),
        *_of_directories(directories),
    ]


def suspicions(tools: UndoTools) -> list[str]:
    """The undos that are due by the looks of the host, without a journal.

    Each kind of taking in the registry is asked.
    """
    return [
        f'somebody has yet to {taking.describe()}'
        for taking in registry.suspected(tools)
        if taking.is_due(tools)
    ]


def _of_domain(
    connection: Any,
    before: Before,
    is_frozen: Callable[[Any], bool | None],
) -> Iterator[str]:
    try:
        after = Before.of(connection, before.name)
        domain = connection.lookupByName(before.name)
    except libvirt.libvirtError as error:
        yield f'the domain is gone: {error}'
        return
    yield from _of_definition(before.definition, after.definition)
    for field in ('uuid', 'autostart', 'state', 'saved', 'agent_channel'):
        was, now = getattr(before, field), getattr(after, field)
        if was != now:
            yield f'{field} was {was}, and is {now}'
    if after.state == before.state:
        for device in sorted({*before.host_devices, *after.host_devices}):
            was = before.host_devices.count(device)
            now = after.host_devices.count(device)
            if was != now:
                yield f'the guest had {was} of {device}, and has {now}'
    for checkpoint in domain.listAllCheckpoints(0):
        if checkpoint.getName().startswith(PREFIX):
            yield f'libvirt has a record of {checkpoint.getName()}'
    if domain.isActive():
        yield from _of_block_jobs(domain)
        if is_frozen(domain):
            yield 'the file systems of the guest are frozen'


def _of_definition(was: str | None, now: str | None) -> Iterator[str]:
    if was is not None and now is None:
        yield 'it was persistent, and is transient'
    elif was is None and now is not None:
        yield 'it was transient, and is persistent'
    elif was != now:
        lines = difflib.unified_diff(
            _indented(was), _indented(now), 'before', 'after', lineterm=''
        )
        yield 'it is defined otherwise:\n' + '\n'.join(lines)


def _of_block_jobs(domain: Any) -> Iterator[str]:
    root = ElementTree.fromstring(domain.XMLDesc())
    for disk in root.iterfind('devices/disk'):
        target = disk.find('target')
        # A drive without a medium can have no job.
        if target is None or disk.find('source') is None:
            continue
        name = target.get('dev', '')
        if job := domain.blockJobInfo(name):
            yield f'{name} has a block job: {job}'
        if disk.find('mirror') is not None:
            yield f'{name} has a mirror'


def _of_directories(directories: Directories) -> Iterator[str]:
    for name in _entries(directories.snapshots):
        yield f'in the snapshots directory: {name}'
    for name in _entries(directories.state):
        if name != ledger.NAME and not name.endswith('.lock'):
            yield f'in the state directory: {name}'
    for name in _entries(os.path.join(directories.state, ledger.NAME)):
        if not name.endswith((ledger.LEAVES, ledger.DELETED)):
            yield f'in the ledger: {name}'
    for name in _entries(directories.output):
        if name.endswith('.part'):
            yield f'beside the output: {name}'


def _entries(directory: str | None) -> list[str]:
    if directory is None or not os.path.isdir(directory):
        return []
    return sorted(os.listdir(directory))


def _host_devices(domain: Any) -> tuple[str, ...]:
    devices = ElementTree.fromstring(domain.XMLDesc()).find('devices')
    if devices is None:
        return ()
    return tuple(
        sorted(
            _canonical(ElementTree.tostring(source, encoding='unicode'))
            for device in devices
            if device.tag == 'hostdev' or device.get('type') == 'hostdev'
            for source in device.iterfind('source')
        )
    )


@functools.lru_cache(maxsize=64)
def _canonical(xml: str) -> str:
    return ElementTree.canonicalize(xml, strip_text=True)


def _indented(xml: str | None) -> list[str]:
    root = ElementTree.fromstring(xml or '<nothing/>')
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode').splitlines()
