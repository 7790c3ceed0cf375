# SPDX-License-Identifier: Apache-2.0
"""A snapshot, from the plan to the proven image."""
