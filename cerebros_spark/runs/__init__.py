"""Content of a run in the store: its journal, and its trials' specs and model states.

The journal is append-only and contains digests; the audit checks that it is complete and
consistent. The worker configuration is sent to every worker when it starts.
"""
