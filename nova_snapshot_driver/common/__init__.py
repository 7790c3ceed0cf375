# SPDX-License-Identifier: Apache-2.0
"""Words and tools of all modules, without I/O of a cloud or hypervisor."""
