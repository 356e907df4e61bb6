"""One request over a connection of its own, with every phase stamped."""
