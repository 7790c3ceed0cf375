# SPDX-License-Identifier: Apache-2.0
"""Snapshots of instances: fast, consistent and proven."""
