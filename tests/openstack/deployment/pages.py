# SPDX-License-Identifier: Apache-2.0
"""The parts of the documentation that an operator types and writes."""

from __future__ import annotations

from tests.openstack.deployment import rst

_REMOVAL = 'install/removal'

#: The words above what is for a Nova from packages, which the lab lacks.
_PACKAGES = 'Where Nova comes from the packages of Debian'

#: The way in of a compute node.
IN_SHORT = rst.find('install/deployment', 'In short, where nova-compute runs')

#: The wheel for all hosts of a cloud.
WHEEL = rst.find('install/deployment', 'build a wheel for all hosts')

#: The line of nova-api.
API_LINE = rst.find('admin/volumes', 'one line of its ``api-paste.ini``')

#: The restart of nova-api, which loads the line.
API_RESTART = rst.find('admin/volumes', 'Restart nova-api, or reload it')

#: The rule for the sockets of snapshots.
APPARMOR = rst.find('install/deployment', 'which the profiles of all guests')

#: All that a deployment adds to a host, but for AppArmor.
WAY_IN = (
    WHEEL,
    rst.find('install/deployment', 'Have systemd signal only nova-compute'),
    rst.find('install/deployment', 'In a mixed cloud have nova-api'),
    rst.find('admin/operating', 'which the textfile collector of'),
    rst.find('admin/operating', 'Install the library for it, create'),
    IN_SHORT,
    API_LINE,
    API_RESTART,
)

#: The steps of the way back, in their order.
WAY_BACK = {
    section: [
        block
        for block in rst.of_section(_REMOVAL, section)
        if _PACKAGES not in block.words
    ]
    for section in rst.sections(_REMOVAL)
    if section[0].isdigit()
}
