# SPDX-License-Identifier: Apache-2.0
"""Options of Nova that a check reads, and a snapshot does not."""

from __future__ import annotations

import os
from collections.abc import Iterator

from keystoneauth1 import loading
from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.paths import may_exist
from nova_snapshot_driver.common import reason

#: The file in which Debian and Ubuntu set ``compute_driver``; Nova reads it
#: too.
COMPUTE_CONF = 'nova-compute.conf'

#: Name, type and default are those of Nova 34. The group None is [DEFAULT].
_OPTS: dict[str | None, list[cfg.Opt]] = {
    None: [cfg.StrOpt('compute_driver', default='')],
    'libvirt': [
        cfg.StrOpt('virt_type', default='kvm'),
        cfg.StrOpt('images_type', default='default'),
    ],
    'glance': [cfg.ListOpt('api_servers', default=[])],
    'keystone_authtoken': [
        cfg.ListOpt('service_token_roles', default=['service']),
        cfg.StrOpt('region_name'),
    ],
    'placement': [cfg.StrOpt('region_name')],
    'service_user': [cfg.BoolOpt('send_service_user_token', default=False)],
    'cinder': [
        cfg.StrOpt('catalog_info', default='volumev3::publicURL'),
        cfg.StrOpt('endpoint_template'),
        cfg.StrOpt('os_region_name'),
    ],
    'wsgi': [cfg.StrOpt('api_paste_config', default='api-paste.ini')],
}


def load(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    """Read the same files once more, for the options that are missing.

    One configuration can't have two notions of an option, and some are
    defined by keystoneauth.

    :raises ConfigurationInvalid: a value is not valid
    """
    options = cfg.ConfigOpts()
    try:
        options(args=[], project='nova', default_config_files=conf.config_file)
        for group, opts in _OPTS.items():
            options.register_opts(opts, group=group)
            for opt in opts:
                getattr(options if group is None else options[group], opt.dest)
        # The options that nova.conf.service_token, nova.conf.glance and
        # nova.conf.cinder register.
        for group in ('service_user', 'cinder'):
            loading.register_auth_conf_options(options, group)
        for group in ('glance', 'cinder'):
            loading.register_session_conf_options(options, group)
        adapter_opts = loading.get_adapter_conf_options(
            include_deprecated=False
        )
        cfg.set_defaults(
            adapter_opts,
            valid_interfaces=['internal', 'public'],
            service_type='image',
        )
        options.register_opts(adapter_opts, group='glance')
    except Exception as error:
        raise exception.ConfigurationInvalid(
            reason=reason.of(error)
        ) from error
    return options


def findings(
    conf: cfg.ConfigOpts, options: cfg.ConfigOpts
) -> Iterator[Finding]:
    """The options whose values affect the snapshots of nova-compute."""
    if options.libvirt.virt_type not in ('kvm', 'qemu'):
        yield _left_to_nova('virt_type', options.libvirt.virt_type)
    if conf.snapshot.method == 'auto':
        if conf.workarounds.disable_libvirt_livesnapshot:
            yield _cold('[workarounds] disable_libvirt_livesnapshot')
        if conf.ephemeral_storage_encryption.enabled:
            yield _cold('[ephemeral_storage_encryption] enabled')


def unread_files(conf: cfg.ConfigOpts) -> list[str]:
    """The files that nova-compute reads by default, but for those given."""
    given = {os.path.realpath(path) for path in conf.config_file}
    beside = dict.fromkeys(
        os.path.join(os.path.dirname(path), COMPUTE_CONF)
        for path in conf.config_file
    )
    return [
        path
        for path in beside
        if may_exist(path) and os.path.realpath(path) not in given
    ]


def _left_to_nova(option: str, value: str) -> Finding:
    return Finding(
        f'[libvirt] {option}',
        Verdict.WARNING,
        f"{value}: Nova's own driver takes the snapshots of such instances, "
        'as it did before.',
    )


def _cold(option: str) -> Finding:
    return Finding(
        option,
        Verdict.WARNING,
        'Snapshots are cold: a guest is suspended while its disk is read. '
        'Take the option out if live snapshots are wanted.',
    )
