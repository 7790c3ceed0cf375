# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the documentation."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / '_ext'))

extensions = ['openstackdocstheme', 'oslo_config.sphinxext', 'reference']

project = 'nova-snapshot-driver'
copyright = 'nova-snapshot-driver contributors'
# The documentation is that of the checkout it is built from.
openstackdocs_auto_version = False
openstackdocs_auto_name = False

html_theme = 'openstackdocs'
