# SPDX-License-Identifier: Apache-2.0
"""All errors of the driver.

An error is a class with a message template, a stable ``code`` and the fields
that the template names. It is raised with its fields alone::

    raise DomainNotFound(domain='web-1')

An error travels between processes as the dictionary of ``to_dict()`` and comes
back through ``from_dict()``.
"""

from __future__ import annotations

from typing import Any
from typing import ClassVar

#: The most characters of a field. No path is longer.
LONGEST_FIELD = 4096


class SnapshotError(Exception):
    """A snapshot that can't be taken, and what to do about it.

    The text in its fields is one line without control characters, and no
    longer than ``LONGEST_FIELD``: a guest may have written it.
    """

    code: ClassVar[str] = 'snapshot-failed'
    template: ClassVar[str] = '{reason}'

    def __init__(self, **fields: Any) -> None:
        self.fields = {name: _plain(fields[name]) for name in fields}
        super().__init__(self.template.format(**self.fields))

    def __reduce__(self) -> tuple[Any, ...]:
        return from_dict, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        return {
            'code': self.code,
            'message': str(self),
            'fields': self.fields,
        }


class UnexpectedError(SnapshotError):
    """An error that nobody has foreseen: a bug of this program."""

    code = 'unexpected-error'
    template = (
        'nova-snapshot-driver has a bug: {reason}. Please report it, with '
        'the output of nova-snapshot --verbose.'
    )


class NameInvalid(SnapshotError):
    code = 'name-invalid'
    template = (
        'Glance takes no image with the name {name}: {reason}. Choose '
        'another one (option --name).'
    )


def _plain(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shortened = value[:LONGEST_FIELD]
    if shortened.isprintable():
        return shortened
    return ''.join(
        character if character.isprintable() else ' '
        for character in shortened
    )


# The domain and its hypervisor


class ConnectionFailed(SnapshotError):
    code = 'connection-failed'
    template = (
        'libvirt at {uri} does not answer: {reason}. Is the daemon running, '
        'and may this user connect to it? (option [libvirt] connection_uri)'
    )


class LibvirtMissing(SnapshotError):
    code = 'libvirt-missing'
    template = (
        'libvirt-python is not installed for {python}. Install the package of '
        'the distribution, or "nova-snapshot-driver[libvirt]". A host of '
        'nova-api alone needs neither, and has no guest to be snapshotted.'
    )


class DomainNotFound(SnapshotError):
    code = 'domain-not-found'
    template = (
        'There is no domain {domain}. If it was there a moment ago, it was '
        'deleted, or it was transient and has stopped.'
    )


class HypervisorError(SnapshotError):
    code = 'hypervisor-error'
    template = 'Domain {domain}: {operation} failed: {reason}'


class AgentRefused(HypervisorError):
    code = 'agent-refused'
    template = (
        'Domain {domain}: the guest agent refuses to {operation}: {reason}'
    )


class BitmapLost(HypervisorError):
    code = 'bitmap-lost'
    template = (
        'Domain {domain}: QEMU no longer knows what has changed on {disk}: '
        '{reason}. The next increment is found by a comparison instead.'
    )


class DescriptionUnreadable(SnapshotError):
    code = 'description-unreadable'
    template = (
        'libvirt describes {what} in a way that cannot be read: {reason}. '
        '"virsh dumpxml" and "virsh capabilities" show it.'
    )


class TooOld(SnapshotError):
    code = 'too-old'
    template = 'Version {found} is too old; {least} is needed.'


class HypervisorTimeout(SnapshotError):
    code = 'hypervisor-timeout'
    template = (
        'Domain {domain}: {operation} did not end within {seconds} s '
        '({bound}).'
    )


class HypervisorSilent(HypervisorTimeout):
    """A call has no answer yet, and may still take effect.

    :ivar fields: ``operation`` is the call
    """

    code = 'hypervisor-silent'
    template = (
        'Domain {domain}: {answerer} has not answered {operation} for '
        '{seconds} s ({bound}), and is asked nothing else '
        'until it does. Is its QEMU stopped, or its storage? What the '
        'snapshot has taken is given back when it answers, or when the guest '
        'is stopped with "virsh destroy {domain}".'
    )


class DomainBusy(SnapshotError):
    code = 'domain-busy'
    template = (
        'Domain {domain} is being snapshotted already. Wait until that has '
        'ended, or cancel it.'
    )


class ForeignBlockJob(SnapshotError):
    code = 'foreign-block-job'
    template = (
        'Domain {domain} has a block job on {disk} that is not ours '
        '({job}). It was left alone; wait until it has ended, or end it '
        'with "virsh blockjob {domain} {disk} --abort".'
    )


class NotSupported(SnapshotError):
    code = 'not-supported'
    template = 'Domain {domain} cannot be snapshotted: {reason}'


class RequestNotSupported(SnapshotError):
    """A refusal that is final, while one to be ``NotSupported`` is not."""

    code = 'request-not-supported'
    template = (
        'Domain {domain}: the request asks for {wishes}, and that cannot be '
        "done: {reason} Nothing was touched. Nova's own driver was not asked "
        'instead, since it would pass over that part of the request. Ask '
        'for a snapshot without it.'
    )


class UnsafeBackingFile(SnapshotError):
    code = 'unsafe-backing-file'
    template = (
        'Domain {domain}: {path} names the backing file {backing} without '
        'its format, and a format is never guessed from content. Record it '
        'with "qemu-img rebase -u -F FORMAT -b {backing} {path}" while the '
        'guest is shut off.'
    )


# The steps of a snapshot


class QuiesceFailed(SnapshotError):
    """
    :ivar fields: ``public`` is what the owner of the server may read of the
        reason: words of ``grounds``
    """

    code = 'quiesce-failed'
    template = (
        'Domain {domain} must be quiesced and could not be: {reason}. '
        'Start or repair qemu-guest-agent in the guest, or do not require '
        'quiescing.'
    )


class MirrorFailed(SnapshotError):
    code = 'mirror-failed'
    template = (
        'Domain {domain}: the copy of {disk} ended before it was complete: '
        '{reason}. The guest was given back as it was found.'
    )


class BackupRefused(SnapshotError):
    code = 'backup-refused'
    template = (
        'Domain {domain}: libvirt does not begin a backup job: {reason}. '
        'Nothing was touched.'
    )


class ChangesUntracked(SnapshotError):
    """A backup job can't be begun together with a bitmap, or from one."""

    code = 'changes-untracked'
    template = (
        'Domain {domain}: QEMU does not record what changes on {disk}: '
        '{reason}. Nothing was touched.'
    )


class ClaimRefused(SnapshotError):
    """A file that QEMU was to write is another one.

    :ivar fields: ``path``; ``reason`` begins with what was found
    """

    code = 'claim-refused'
    template = (
        '{path} is not taken over from QEMU: {reason}. Its owner is as it '
        'was. Unless an operator has touched it, look at that QEMU: it may be '
        'in the hands of its guest.'
    )


class ServerForeign(SnapshotError):
    """A process other than the guest's QEMU serves an export."""

    code = 'server-foreign'
    template = (
        'Nothing is read through {socket}: {reason}. Unless an operator has '
        'touched it, look at the QEMU of the guest: it may be in the hands of '
        'that.'
    )


class BackupFailed(SnapshotError):
    code = 'backup-failed'
    template = (
        'Domain {domain}: the backup job of {disk} ended before the image was '
        'complete: {reason}. The guest runs on as it did.'
    )


class ScratchFull(SnapshotError):
    code = 'scratch-full'
    template = (
        'Domain {domain}: {directory} has {available} MiB free, and a backup '
        'job has to leave {reserve} MiB (option [snapshot] scratch_reserve). '
        'The job was ended before the guest could notice. Free some space, or '
        'set [snapshot] scratch_directory to a larger file system.'
    )


class CloneRefused(SnapshotError):
    code = 'clone-refused'
    template = (
        'Domain {domain}: its disk does not become an image inside Ceph: '
        '{reason}. Nothing of it is left there.'
    )


class ForeignJob(SnapshotError):
    code = 'foreign-job'
    template = (
        'Domain {domain} has a {job} job that is not ours. It was left alone; '
        'wait until it has ended, or end it with "virsh domjobabort '
        '{domain}".'
    )


class JobLost(SnapshotError):
    code = 'job-lost'
    template = (
        'Domain {domain}: libvirt was killed while it began a backup job, and '
        'keeps the place of that job, beside which the guest can not be '
        'suspended. Nothing was touched. The place is free again after '
        '"openstack server reboot --hard".'
    )


class DeviceNotReleased(SnapshotError):
    code = 'device-not-released'
    template = (
        'Domain {domain}: the guest did not release the device {device} '
        'within {seconds} s (option [snapshot] device_detach_timeout). Is the '
        'guest booted, and does it support hot-unplug?'
    )


class DomainStarted(SnapshotError):
    code = 'domain-started'
    template = (
        'Domain {domain} was started while its disk was being read, so what '
        'was read is no single instant. Take the snapshot again.'
    )


class DiskInUse(SnapshotError):
    code = 'disk-in-use'
    template = (
        "Domain {domain}: Glance has refused the clone that Nova's own driver "
        'had made in Ceph, and the guest runs again: its disk is not read, '
        'which would be no single instant. Let Nova set the locations of '
        'images in Glance.'
    )


class UndoFailed(SnapshotError):
    """An undo failed at every attempt: a person has to look."""

    code = 'undo-failed'
    template = (
        'Domain {domain} could not be given back as it was found: '
        '{undo} failed: {reason}. {remedy}'
    )


class RecoveryIncomplete(SnapshotError):
    """Several undos of a dead snapshot failed, each by itself."""

    code = 'recovery-incomplete'
    template = (
        'Domain {domain}: a snapshot died, and {count} things that it has '
        'left stay: {reasons} The next snapshot of the domain, or '
        '"nova-snapshot recover", tries them again.'
    )


class NoSpace(SnapshotError):
    code = 'no-space'
    template = (
        '{directory} has {available} MiB free and the snapshot of {domain} '
        'needs up to {required} MiB. Nothing was touched. Free some space, '
        'or name a directory of a larger file system with {option}.'
    )


class DirectoryUnusable(SnapshotError):
    code = 'directory-unusable'
    template = '{directory} cannot be used: {reason} (option {option}).'


class StateDirectoryMissing(SnapshotError):
    code = 'state-directory-missing'
    template = (
        'There is no directory {directory} (option {option}): no snapshot was '
        'ever taken with this configuration, or another configuration is '
        'meant. nova-compute makes the directory when it starts. Name the '
        'nova.conf of nova-compute with --config-file.'
    )


class StateUnreadable(SnapshotError):
    """Nobody can tell what the driver remembers.

    :ivar fields: ``path`` is of the state directory, or of a file in it
    """

    code = 'state-unreadable'
    template = (
        '{path} cannot be read: {reason} (option {option}). What a snapshot '
        'has noted there is not known, and nothing of it is undone. Run the '
        'command as root or as the user of nova-compute; look at a file that '
        'they can not read either, and remove it.'
    )


class DirectoryShut(SnapshotError):
    """The mode of a directory keeps QEMU out.

    :ivar fields: ``bit`` is what the mode lacks, as chmod(1) has it; ``path``
        is what the option names
    """

    code = 'directory-shut'
    template = (
        'QEMU runs as {user} and may not enter {directory}, which has the '
        'mode {mode} and belongs to {owner}: it could not come to {path} '
        '(option {option}). Nothing was touched. Let it in with "chmod {bit} '
        '{directory}", or name another directory with the option.'
    )


class HostBusy(SnapshotError):
    code = 'host-busy'
    template = (
        'The host was busy with as many disks as it may be at a time for '
        '{seconds} s (options [compute] max_concurrent_disk_ops, [snapshot] '
        'disk_slot_timeout). Nothing was touched; take the snapshot again.'
    )


class OutputExists(SnapshotError):
    code = 'output-exists'
    template = '{path} exists already; it was left alone.'


class OutputUnusable(SnapshotError):
    code = 'output-unusable'
    template = '{path} cannot be written: {reason} (option {option}).'


class Cancelled(SnapshotError):
    code = 'cancelled'
    template = 'The snapshot was cancelled ({reason}).'


class CancelledByOperator(Cancelled):
    """An operator cancelled the snapshot; its user has not asked for it."""

    code = 'cancelled-by-operator'


class CancelledByStop(Cancelled):
    """The service stops, and the instance stays."""

    code = 'cancelled-by-stop'


class SnapshotNotFound(SnapshotError):
    code = 'snapshot-not-found'
    template = (
        'No snapshot of domain {domain} is there to be cancelled: {reason}. '
        '"nova-snapshot status" lists those that run on this host.'
    )


class DeadlineExceeded(SnapshotError):
    code = 'deadline-exceeded'
    template = (
        'The snapshot was not complete within {seconds} s (option [snapshot] '
        'deadline).'
    )


# A chain of files


class ChainUnusable(SnapshotError):
    code = 'chain-unusable'
    template = 'The chain of files in {directory} cannot be used: {reason}'


class ChainBroken(SnapshotError):
    """
    :ivar fields: ``name`` is the snapshot that cannot be understood
    """

    code = 'chain-broken'
    template = (
        'The chain of files in {directory} is broken at {name}: {reason}. It '
        'was left alone. Bring back what is missing from a copy, or begin '
        'another chain in an empty directory.'
    )


class ChainBusy(SnapshotError):
    code = 'chain-busy'
    template = (
        'The chain of files in {directory} is being used by another process. '
        'Try again when that has ended.'
    )


class ChainForeign(SnapshotError):
    code = 'chain-foreign'
    template = (
        '{directory} has the chain of the disk {disk} of the domain {domain} '
        '({uuid}), and a chain is that of one disk. Name another directory.'
    )


class ChainNameRefused(SnapshotError):
    code = 'chain-name-refused'
    template = (
        'No snapshot in {directory} can get the name {name}: {reason}. Choose '
        'another one (option --name).'
    )


class ChainSnapshotNotFound(SnapshotError):
    code = 'chain-snapshot-not-found'
    template = (
        'The chain of files in {directory} has no snapshot {name}. '
        '"nova-snapshot chain list {directory}" shows those that it has.'
    )


# The data plane


class SourceUnreadable(SnapshotError):
    code = 'source-unreadable'
    template = 'The content of the disk cannot be read: {reason}'


class FileUnwritable(SnapshotError):
    code = 'file-unwritable'
    template = (
        '{path} cannot be written: {reason}. Nothing is left of it. Is there '
        'space in its directory, and may this user write there?'
    )


class VolumeUnwritable(SnapshotError):
    code = 'volume-unwritable'
    template = (
        'The volume that takes the snapshot cannot be written: {reason}. Can '
        'this host reach Ceph, and does it have the key of the user that '
        'Cinder names, as a secret of libvirt that is not private, or in a '
        'keyring?'
    )


class LeavesDamaged(SnapshotError):
    """The hashes of chunks are not those that a record vouches for."""

    code = 'leaves-damaged'
    template = (
        'The hashes in {path} are not those that were written: {reason}.'
    )


class DiskDamaged(SnapshotError):
    """
    :ivar fields: ``offset`` is that of the first damaged chunk, in bytes
    """

    code = 'disk-damaged'
    template = (
        'The disk is not as it was when its snapshot was taken: the chunk at '
        '{offset} has another hash. Nothing was written. "nova-snapshot chain '
        'verify" shows which snapshots are intact.'
    )


class IncrementUnproven(SnapshotError):
    """
    :ivar fields: ``count`` is that of chunks that differ, and ``offset`` that
        of the first one, in bytes
    """

    code = 'increment-unproven'
    template = (
        '{path} does not have what was read from the disk: {count} chunks '
        'differ, the first one at {offset}. Nothing is left of it. See the '
        'storage of its directory; the next snapshot tries again.'
    )


class VolumeUnproven(SnapshotError):
    """
    :ivar fields: ``count`` is that of chunks that differ, and ``offset`` that
        of the first one, in bytes
    """

    code = 'volume-unproven'
    template = (
        'The snapshot {snapshot} in Cinder does not have what was read from '
        'the disk: {count} chunks differ, the first one at {offset}. Nothing '
        'is left of it. See the storage of the volume {volume}; the next '
        'snapshot tries again.'
    )


class LibnbdMissing(SnapshotError):
    code = 'libnbd-missing'
    template = (
        'libnbd cannot be used: {reason}. Install the package '
        'python3-libnbd, for the Python that this runs on.'
    )


class CompressionOverflow(SnapshotError):
    code = 'compression-overflow'
    template = (
        'The image could not be compressed into the {budget} bytes that were '
        'kept for it.'
    )


class CommandFailed(SnapshotError):
    code = 'command-failed'
    template = '{command} failed with exit status {status}: {reason}'


class CommandMissing(SnapshotError):
    code = 'command-missing'
    template = '{command} is not installed. Install the package {package}.'


class TransferTimeout(SnapshotError):
    code = 'transfer-timeout'
    template = (
        'The {job} did not end within {seconds} s (option [snapshot] '
        '{option}).'
    )


class TransferDied(SnapshotError):
    code = 'transfer-died'
    template = 'The process of the {job} died ({status}): {reason}'


# Ceph


class CephError(SnapshotError):
    """
    :ivar fields: ``status`` is an ``errno``
    """

    code = 'ceph-error'
    template = 'Ceph: {operation} failed with exit status {status}: {reason}'


class CephNotFound(CephError):
    """The pool, image or snapshot does not exist."""

    code = 'ceph-not-found'


class CephDenied(CephError):
    """The user lacks the permission."""

    code = 'ceph-denied'


class CephFull(CephError):
    """The cluster is full, or a quota is used up."""

    code = 'ceph-full'


class CephTimeout(CephError):
    code = 'ceph-timeout'


# Glance


class GlanceError(SnapshotError):
    code = 'glance-error'
    template = 'Glance at {endpoint}: {operation} failed: {reason}'


class GlanceUnavailable(GlanceError):
    """Glance is out of reach or out of order now, and may work later."""

    code = 'glance-unavailable'


class ImageNotFound(GlanceError):
    code = 'image-not-found'
    template = 'Glance at {endpoint} has no image {image}.'


class LocationRefused(GlanceError):
    """Glance has refused a location for certain: the image is as it was."""

    code = 'location-refused'
    template = (
        'Glance at {endpoint} takes no location for image {image}: {reason}'
    )


class UploadFailed(SnapshotError):
    code = 'upload-failed'
    template = (
        'The upload of image {image} failed {attempts} times and was given '
        'up (option [glance] num_retries). The last error: {reason}'
    )


class ImageVerificationFailed(SnapshotError):
    code = 'image-verification-failed'
    template = (
        'Glance does not hold what was sent as image {image}: {field} is '
        '{stored}, sent was {sent}.'
    )


class ImageLeftBehind(SnapshotError):
    code = 'image-left-behind'
    template = (
        'The snapshot failed ({cause}), and its image {image} could not be '
        'deleted: {reason}. Delete it with "openstack image delete {image}".'
    )


# Cinder


class CinderError(SnapshotError):
    code = 'cinder-error'
    template = 'Cinder at {endpoint}: {operation} failed: {reason}'


class CinderUnavailable(CinderError):
    """Cinder is out of reach or out of order now, and may work later.

    The request may have been carried out all the same.
    """

    code = 'cinder-unavailable'


class CinderOverLimit(CinderError):
    code = 'cinder-over-limit'
    template = (
        'Cinder at {endpoint}: {operation} failed: {reason}. The quota of the '
        'project is used up; delete snapshots, or have it raised.'
    )


class VolumeNotFound(CinderError):
    code = 'volume-not-found'
    template = (
        'Cinder at {endpoint} has no volume or snapshot {volume}, or does not '
        'show it to whoever asks.'
    )


class CinderAccessUnavailable(SnapshotError):
    code = 'cinder-access-unavailable'
    template = (
        'Keystone gives no access to Cinder: {reason}. Do [cinder] and '
        '[service_user] in nova.conf hold the right address and credentials?'
    )


class VolumeOutOfReach(SnapshotError):
    code = 'volume-out-of-reach'
    template = (
        'The volume {volume} in Cinder can not be opened here: {reason}.'
    )


class SnapshotUnverifiable(SnapshotError):
    code = 'snapshot-unverifiable'
    template = 'The snapshot {snapshot} can not be verified: {reason}.'


class VolumeRefused(SnapshotError):
    code = 'volume-refused'
    template = (
        'Domain {domain}: its snapshot can not go to a volume in Cinder: '
        '{reason}. Nothing was touched. Ask for an image instead: the '
        'property snapshot_target=image.'
    )


class VolumeChanged(SnapshotError):
    """A volume has other content than its last snapshot, for good."""

    code = 'volume-changed'
    template = (
        'Domain {domain}: the volume {volume}, which has its snapshots, is '
        'not as the last of them any more: {reason}. The next one is found by '
        'a comparison with what is there.'
    )


class VolumeBusy(SnapshotError):
    code = 'volume-busy'
    template = (
        'Domain {domain}: the volume {volume}, which takes its snapshots, is '
        '{status}. Detach it from whatever has it, and leave it to this '
        'driver; or delete it, and the next snapshot makes another one.'
    )


class VolumeTimeout(SnapshotError):
    code = 'volume-timeout'
    template = (
        'Volume {volume} is {status} in Cinder after {seconds} s, and was to '
        'be {wanted}. See the logs of cinder-volume. (option [snapshot] '
        'volume_timeout)'
    )


class TargetInvalid(SnapshotError):
    code = 'target-invalid'
    template = (
        'A snapshot goes to an image, to a volume, or to either as is best '
        '("auto"), and not to "{value}": that is snapshot_target of {where}.'
    )


class VolumeSnapshotsNotCreated(SnapshotError):
    code = 'volume-snapshots-not-created'
    template = (
        'Domain {domain}: Cinder had not created the snapshots of {left} of '
        '{total} volumes within {seconds} s (option [snapshot] '
        'stall_timeout). The guest goes on, and there is no snapshot.'
    )


class FreezeLost(SnapshotError):
    code = 'freeze-lost'
    template = (
        'Domain {domain} was frozen while its volumes got their snapshots, '
        'and has thawed by itself within {seconds} s: these are of no single '
        'instant. '
        'See why Cinder takes so long, or have the guest paused (option '
        '[snapshot] pause).'
    )


class VolumeSnapshotFailed(SnapshotError):
    code = 'volume-snapshot-failed'
    template = (
        'The snapshot {snapshot} of volume {volume} is in the state {status}. '
        'The log of cinder-volume says why.'
    )


class VolumeSnapshotTimeout(SnapshotError):
    code = 'volume-snapshot-timeout'
    template = (
        'The snapshots of {left} of {total} volumes were not available '
        'within {seconds} s (option [snapshot] volume_timeout).'
    )


class VolumeSnapshotsLeftBehind(SnapshotError):
    code = 'volume-snapshots-left-behind'
    template = (
        'The snapshot failed ({cause}), and its snapshots in Cinder could not '
        'be deleted: {reason}. They are those of the volumes {volumes} with '
        'the metadata {mark}={image}; delete them with "openstack volume '
        'snapshot delete".'
    )


class VolumeLeftBehind(VolumeSnapshotsLeftBehind):
    code = 'volume-left-behind'
    template = (
        'The snapshot failed ({cause}), and the volume in Cinder that was to '
        'take it could not be given back: {reason}. The next snapshot of the '
        'server, or start of nova-compute, tries again. By hand, delete the '
        'attachment of the volume with the metadata {mark}={image}, and its '
        'snapshot with nova_snapshot_image={image}.'
    )


class OptionRefused(SnapshotError):
    code = 'option-refused'
    template = '{option} is of no use with {other}: {reason}. Leave it out.'


class VolumeBacked(SnapshotError):
    code = 'volume-backed'
    template = (
        'The root disk of domain {domain} is the volume {volume} in Cinder, '
        'where its snapshots stay: there is no file of it. Leave out '
        '--output and --into.'
    )


class NoCloud(SnapshotError):
    code = 'no-cloud'
    template = (
        'There is no cloud to send the image to: {reason}. Set OS_CLOUD or '
        'the OS_* variables, name a Glance without authentication with '
        '--glance-url, or write to a file with --output.'
    )


class CloudUnavailable(SnapshotError):
    code = 'cloud-unavailable'
    template = (
        'The cloud cannot be used: {reason}. Do the OS_* variables or '
        'clouds.yaml hold the right address and credentials?'
    )


class KeystoneUnavailable(SnapshotError):
    code = 'keystone-unavailable'
    template = (
        'Keystone gives no access to the cloud: {reason}. Do [glance] and '
        '[service_user] in nova.conf hold the right address and credentials?'
    )


class MetricsUnavailable(SnapshotError):
    code = 'metrics-unavailable'
    template = (
        'There are no metrics ([snapshot] metrics_file): {reason}. Install '
        'prometheus_client for the Python of nova-compute, for example as '
        '"nova-snapshot-driver[metrics]".'
    )


class OutputUnwritable(SnapshotError):
    """The command has succeeded, but its output could not be written."""

    code = 'output-unwritable'
    template = (
        'What was asked for is done, and its result could not be written to '
        'standard output: {reason}. It is above, on standard error.'
    )


class ConfigurationInvalid(SnapshotError):
    code = 'configuration-invalid'
    template = 'The configuration cannot be used: {reason}'


def by_code(
    root: type[SnapshotError] = SnapshotError,
) -> dict[str, type[SnapshotError]]:
    """Every error, by its code."""
    classes = {root.code: root}
    for subclass in root.__subclasses__():
        classes.update(by_code(subclass))
    return classes


def from_dict(error: dict[str, Any]) -> SnapshotError:
    """The error that ``to_dict()`` has described, in this process."""
    return by_code()[error['code']](**error['fields'])
