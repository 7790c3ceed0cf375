# SPDX-License-Identifier: Apache-2.0
"""Tests of the door to Nova, with Nova itself.

They run where Nova is installed, with this package beside it::

    OS_NOVA_DISABLE_EVENTLET_PATCHING=True \\
        stestr --test-path ./tests/nova run

Without that variable Nova runs on eventlet, and so do the tests.
"""

# Nova's own tests choose how it is threaded, and must come first.
import nova.tests.unit  # noqa: F401
