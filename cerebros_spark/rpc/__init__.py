"""Communication between driver and workers over gRPC.

Workers pull their work, so they open no ports. Connections use TLS, with a certificate and a secret
created for the run. Messages are JSON, with every field validated; nothing is unpickled.
"""
