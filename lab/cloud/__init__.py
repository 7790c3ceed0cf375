# SPDX-License-Identifier: Apache-2.0
"""The cloud: a whole OpenStack around the driver, on one machine.

Keystone, Glance, Placement, RabbitMQ, libvirtd and Nova, each a process of
its own, below one directory (see :class:`lab.cloud.cloud.Cloud`). It
needs root, but neither systemd nor KVM, and leaves the machine's own libvirt
and RabbitMQ alone.
"""
