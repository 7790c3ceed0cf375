# SPDX-License-Identifier: Apache-2.0
"""The things that snapshots take from guest and host, with their undos."""
