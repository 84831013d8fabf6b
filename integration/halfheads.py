"""Sends half a request's head to two ports of loopback, one with TLS and one without, and fails if either is held for half a minute.

Usage: halfheads.py CERTIFICATE PORT-WITH-TLS PORT-WITHOUT
"""

import socket
import ssl
import sys

context = ssl.create_default_context(cafile=sys.argv[1])
with_tls, without = (socket.create_connection(("127.0.0.1", int(port)), 20) for port in sys.argv[2:])
streams = [context.wrap_socket(with_tls, server_hostname="localhost"), without]
for stream in streams:
    stream.sendall(b"GET /health HTTP/1.1\r\nHost: local")
for stream in streams:
    stream.settimeout(30)
    try:
        while stream.recv(4096):
            pass
    except (ssl.SSLError, ConnectionError):
        # However it is cut.
        pass
