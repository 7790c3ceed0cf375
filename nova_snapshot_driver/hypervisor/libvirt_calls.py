# SPDX-License-Identifier: Apache-2.0
"""Every call to libvirt that this driver makes, and who answers it.

A call ends when it is answered, and libvirt bounds none: one that needs QEMU
waits for QEMU, and one that needs what such a call holds waits for that. None
is made but through ``libvirt_objects``, which knows this table alone.

Sources: ``src/qemu/qemu_driver.c`` in libvirt, where a call that waits for
others begins with ``virDomainObjBeginJob``, and one that asks QEMU enters its
monitor; ``test_silent_qemu`` asks a QEMU that is stopped.
"""

from __future__ import annotations

import dataclasses
import enum

#: How long libvirt may take, in seconds, for what it knows by itself. Its own
#: patience with the lock of a domain is as long (``VIR_JOB_WAIT_TIME``).
LIBVIRT_TIMEOUT = 30

#: How long a job may take to be told that it is to end, in seconds. libvirt
#: tells it beside the call that waits for it.
BESIDE_TIMEOUT = 10


class Answerer(enum.Enum):
    """The one who answers a call, in words."""

    #: The object itself: nobody is asked.
    OBJECT = 'the object'
    LIBVIRT = 'libvirt'
    #: libvirt, which may have to start a QEMU first to ask what it is capable
    #: of, after an upgrade or whenever what it knows is outdated. That takes
    #: seconds, and on a busy host half a minute (``virQEMUCapsIsValid``).
    LIBVIRT_PROBING = 'libvirt, with a QEMU of its own'
    #: QEMU, or whoever waits for QEMU already: the domain's job is taken.
    QEMU = 'QEMU'
    #: QEMU, beside another call that waits for it.
    QEMU_BESIDE = 'QEMU beside'
    #: The agent in the guest, by way of QEMU.
    AGENT = 'the guest agent'
    #: Other daemons of libvirt's own, such as those for storage and secrets.
    HELPER = 'a helper of libvirt'


class Bound(enum.Enum):
    """The bound of an answer, by the name of an option or a constant."""

    NOTHING = 'nothing'
    QEMU_TIMEOUT = 'qemu_timeout'
    #: libvirt has that of the agent, and its own lock before it.
    AGENT = 'qemu_timeout + quiesce_timeout'
    LIBVIRT_TIMEOUT = 'LIBVIRT_TIMEOUT'
    BESIDE_TIMEOUT = 'BESIDE_TIMEOUT'


BOUNDS = {
    Answerer.OBJECT: Bound.NOTHING,
    Answerer.LIBVIRT: Bound.LIBVIRT_TIMEOUT,
    Answerer.LIBVIRT_PROBING: Bound.QEMU_TIMEOUT,
    Answerer.QEMU: Bound.QEMU_TIMEOUT,
    Answerer.QEMU_BESIDE: Bound.BESIDE_TIMEOUT,
    Answerer.AGENT: Bound.AGENT,
    Answerer.HELPER: Bound.LIBVIRT_TIMEOUT,
}


class Given(enum.Enum):
    """The kind of an answer."""

    DATA = 'data'
    #: A domain, or a list of such.
    DOMAIN = 'a domain'
    #: An object that is asked about the same domain or host, or a list of
    #: such.
    OBJECT = 'an object'


@dataclasses.dataclass(frozen=True)
class Call:
    """A row of the table: one call.

    :ivar of: the classes of libvirt that have it
    :ivar is_question: it tells what the domain is like, and changes nothing
    """

    of: str
    answered_by: Answerer
    given: Given = Given.DATA
    is_question: bool = False

    @property
    def bound(self) -> Bound:
        return BOUNDS[self.answered_by]


CALLS = {
    # libvirt's own module
    'open': Call('libvirt', Answerer.LIBVIRT),
    # virConnect
    'close': Call('virConnect', Answerer.LIBVIRT),
    'defineXML': Call('virConnect', Answerer.LIBVIRT_PROBING, Given.DOMAIN),
    'domainEventDeregisterAny': Call('virConnect', Answerer.LIBVIRT),
    'domainEventRegisterAny': Call('virConnect', Answerer.LIBVIRT),
    'getCapabilities': Call('virConnect', Answerer.LIBVIRT_PROBING),
    'getLibVersion': Call('virConnect', Answerer.LIBVIRT),
    'getURI': Call('virConnect', Answerer.LIBVIRT),
    'getVersion': Call('virConnect', Answerer.LIBVIRT_PROBING),
    'isAlive': Call('virConnect', Answerer.OBJECT),
    'listAllDomains': Call('virConnect', Answerer.LIBVIRT, Given.DOMAIN),
    'lookupByName': Call('virConnect', Answerer.LIBVIRT, Given.DOMAIN),
    'lookupByUUIDString': Call('virConnect', Answerer.LIBVIRT, Given.DOMAIN),
    'newStream': Call('virConnect', Answerer.OBJECT, Given.OBJECT),
    'secretLookupByUUIDString': Call(
        'virConnect', Answerer.HELPER, Given.OBJECT
    ),
    'storagePoolLookupByName': Call(
        'virConnect', Answerer.HELPER, Given.OBJECT
    ),
    # virDomain: what it is
    'UUIDString': Call('virDomain', Answerer.OBJECT),
    'XMLDesc': Call(
        'virDomain virStoragePool', Answerer.LIBVIRT, is_question=True
    ),
    'autostart': Call('virDomain', Answerer.LIBVIRT, is_question=True),
    'blockInfo': Call('virDomain', Answerer.QEMU, is_question=True),
    'connect': Call('virDomain', Answerer.OBJECT, Given.OBJECT),
    'hasManagedSaveImage': Call(
        'virDomain', Answerer.LIBVIRT, is_question=True
    ),
    'isActive': Call('virDomain', Answerer.LIBVIRT, is_question=True),
    'isPersistent': Call('virDomain', Answerer.LIBVIRT, is_question=True),
    'managedSaveGetXMLDesc': Call('virDomain', Answerer.LIBVIRT),
    'name': Call('virDomain', Answerer.OBJECT),
    'state': Call('virDomain', Answerer.LIBVIRT, is_question=True),
    # virDomain: its definition
    'setAutostart': Call('virDomain', Answerer.QEMU),
    'undefineFlags': Call('virDomain', Answerer.QEMU),
    # virDomain: its jobs
    'abortJob': Call('virDomain', Answerer.QEMU_BESIDE),
    'backupBegin': Call('virDomain', Answerer.QEMU),
    'backupGetXMLDesc': Call('virDomain', Answerer.LIBVIRT, is_question=True),
    'blockJobAbort': Call('virDomain', Answerer.QEMU),
    'blockJobInfo': Call('virDomain', Answerer.QEMU, is_question=True),
    'blockRebase': Call('virDomain', Answerer.QEMU),
    'jobInfo': Call('virDomain', Answerer.QEMU, is_question=True),
    # virDomain: its checkpoints
    'checkpointCreateXML': Call('virDomain', Answerer.QEMU, Given.OBJECT),
    'listAllCheckpoints': Call(
        'virDomain', Answerer.LIBVIRT, Given.OBJECT, is_question=True
    ),
    # virDomain: its agent
    'agentSetResponseTimeout': Call('virDomain', Answerer.LIBVIRT),
    'fsFreeze': Call('virDomain', Answerer.AGENT),
    'fsInfo': Call('virDomain', Answerer.AGENT, is_question=True),
    'fsThaw': Call('virDomain', Answerer.AGENT),
    'getTime': Call('virDomain', Answerer.AGENT, is_question=True),
    'openChannel': Call('virDomain', Answerer.LIBVIRT),
    # virDomain: its life
    'createWithFlags': Call('virDomain', Answerer.QEMU),
    'managedSave': Call('virDomain', Answerer.QEMU),
    'managedSaveRemove': Call('virDomain', Answerer.LIBVIRT),
    'resume': Call('virDomain', Answerer.QEMU),
    'suspend': Call('virDomain', Answerer.QEMU),
    # virDomain: its devices
    'attachDeviceFlags': Call('virDomain', Answerer.QEMU),
    'detachDeviceAlias': Call('virDomain', Answerer.QEMU),
    # virDomainCheckpoint
    'delete': Call('virDomainCheckpoint', Answerer.QEMU),
    'getName': Call('virDomainCheckpoint', Answerer.OBJECT),
    'getXMLDesc': Call('virDomainCheckpoint', Answerer.QEMU, is_question=True),
    # virStream
    'abort': Call('virStream', Answerer.LIBVIRT),
    'recv': Call('virStream', Answerer.LIBVIRT),
    'send': Call('virStream', Answerer.LIBVIRT),
    # virSecret, virStoragePool and virStorageVol
    'info': Call('virStorageVol', Answerer.HELPER),
    'path': Call('virStorageVol', Answerer.HELPER),
    'storageVolLookupByName': Call(
        'virStoragePool', Answerer.HELPER, Given.OBJECT
    ),
    'value': Call('virSecret', Answerer.HELPER),
}
