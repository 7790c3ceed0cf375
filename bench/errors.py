# SPDX-License-Identifier: Apache-2.0
"""The errors of the benchmark."""


class BenchError(Exception):
    """A measurement that does not count."""
