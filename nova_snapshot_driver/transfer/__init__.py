# SPDX-License-Identifier: Apache-2.0
"""The data plane: gigabytes move in a process of their own.

The kind of its job is its argument. The job comes as one line of JSON on
standard input, which stays open for as long as the job is wanted; its
progress, its questions and its result leave as lines of JSON on standard
output. An answer is one more line of the input.
"""
