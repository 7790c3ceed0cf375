# SPDX-License-Identifier: Apache-2.0
"""The lab: real parts for the functional tests and the demonstration.

A libvirt without a daemon, a guest that notices every stall and every lost
write, a Glance, and a proxy that breaks uploads. All of it lives under one
directory (see :mod:`lab.directory`) and needs neither root nor systemd.
"""
