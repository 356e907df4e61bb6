"""The limits of a key: what our probes used of them, and what the server says of them."""
