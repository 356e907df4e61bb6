"""In what form: the bodies and errors of the servers that are imitated."""
