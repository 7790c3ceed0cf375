# SPDX-License-Identifier: Apache-2.0
"""What the benchmark raises."""


class BenchError(Exception):
    """A measurement is not one."""
