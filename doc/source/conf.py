# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the documentation."""

import importlib.metadata
import logging
import pathlib
import sys

OURS = pathlib.Path(__file__).parent / '_ext'
sys.path.insert(0, str(OURS))

extensions = ['oslo_config.sphinxext', 'reno.sphinxext', 'reference']

# reno tells of each note, and of each commit that has one.
logging.getLogger('reno').setLevel(logging.WARNING)

project = 'nova-snapshot-driver'
author = 'nova-snapshot-driver contributors'
copyright = author
# A command is copied with the dashes that it has.
smartquotes_action = 'qe'
release = importlib.metadata.version(project)

html_theme = 'furo'
html_title = f'{project} {release}'
html_theme_options = {'top_of_page_buttons': []}
html_favicon = '_static/icon.svg'
html_copy_source = False
html_use_index = False
templates_path = ['_templates']
html_static_path = ['_static']
html_css_files = ['site.css']
html_search_scorer = str(OURS / 'scorer.js')
