# SPDX-License-Identifier: Apache-2.0
"""Attackers, and what holds against them."""
