"""Communication between driver and workers over gRPC.

Workers pull their work, so they open no port. The connection is TLS with a certificate and a
secret made for the run. Messages are JSON, checked field by field; nothing is unpickled.
"""
