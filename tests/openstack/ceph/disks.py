# SPDX-License-Identifier: Apache-2.0
"""The disks of a guest that are in Ceph."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any


def disks_in_ceph(domain: Any) -> dict[str, tuple[str, str]]:
    """
    :param domain: a ``virDomain``
    :returns: pool and name, and the user who reads and writes, by target
    """
    found = {}
    for disk in ET.fromstring(domain.XMLDesc()).iterfind('devices/disk'):
        source, target = disk.find('source'), disk.find('target')
        if source is None or source.get('protocol') != 'rbd':
            continue
        auth = source.find('auth')
        if auth is None:
            auth = disk.find('auth')
        if auth is not None and target is not None:
            found[target.attrib['dev']] = (
                source.attrib['name'],
                auth.attrib['username'],
            )
    return found
