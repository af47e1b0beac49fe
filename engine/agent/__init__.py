"""A small coding bench for models that act: tasks, a protocol of plain text, and an endpoint."""
