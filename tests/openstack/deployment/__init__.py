# SPDX-License-Identifier: Apache-2.0
"""The driver as an operator deploys it, diagnoses it and takes it out again.

The cloud has a stock Nova, in an environment of its own: what is done there
is done by the commands of the documentation.
"""
