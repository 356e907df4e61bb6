"""The checks that come with the toolkit, each a module with one `CHECK`."""
