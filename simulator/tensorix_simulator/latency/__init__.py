"""When: due times kept, and how long a server under load takes."""
