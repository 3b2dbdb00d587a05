"""Driver and workers over gRPC: sessions, heartbeats, messages and secrets."""
