"""A server on loopback that keeps what Tensorix documents, and tells the truth of each request."""

from tensorix_simulator._simulator import Simulator

__all__ = ["Simulator"]
