# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="import-not-found, import-untyped"
"""nova-compute, with a gate: ``python -m lab.cloud.gated_compute``."""

import os
import sys
from pathlib import Path

# Import Nova first: on eventlet it patches what the others import.
from nova.cmd import compute

from lab.cloud import gate

if __name__ == '__main__':
    gate.install(Path(os.environ[gate.VARIABLE]))
    sys.exit(compute.main())
