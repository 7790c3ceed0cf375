# SPDX-License-Identifier: Apache-2.0
"""The proof of snapshots in Cinder, of any age."""
