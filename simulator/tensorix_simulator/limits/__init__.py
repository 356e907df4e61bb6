"""How much: the limits of a key, and what the headers say of them."""
