"""Bytes: sockets, HTTP/1.1 requests and response heads. Knows nothing of chat."""
