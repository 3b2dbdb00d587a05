"""What a run leaves in the store: its journal, the specs and states of its trials.

The journal is append-only and carries digests; the audit checks that it is complete and
consistent. The worker configuration is what every worker reads when it starts.
"""
