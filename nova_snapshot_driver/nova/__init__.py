# SPDX-License-Identifier: Apache-2.0
"""The door to Nova. Nothing outside of it imports Nova."""
