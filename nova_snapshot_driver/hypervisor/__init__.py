# SPDX-License-Identifier: Apache-2.0
"""libvirt and the guests of this host."""
