# SPDX-License-Identifier: Apache-2.0
"""The errors of the lab."""


class LabError(Exception):
    """A part of the lab could not be built, started or reached."""


class LabTimeout(LabError):
    """Something did not happen in its time."""
