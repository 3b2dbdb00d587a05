"""Digests of user code, so that a run resumes only with the code it began with.

A digest covers bytecode, constants and the helpers that code refers to. It is the same in every
process, and it ignores comments, line numbers and values that the code itself changes.
"""
