# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the release notes."""

extensions = ['openstackdocstheme', 'reno.sphinxext']

project = 'nova-snapshot-driver release notes'
copyright = 'nova-snapshot-driver contributors'
# The notes name their versions themselves.
openstackdocs_auto_version = False
openstackdocs_auto_name = False

html_theme = 'openstackdocs'
