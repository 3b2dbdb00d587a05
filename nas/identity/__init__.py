"""Digests of user code, so that a run is resumed only with the code that it started with.

A digest covers bytecode, constants, and the helpers that the code refers to. It is the same in
every process, and ignores comments, line numbers and values that the code itself changes.
"""
