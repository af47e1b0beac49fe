"""How wide a line is, and sizes in words; light, as what measures memory imports it."""

WIDTH = 80


def bytes_text(size: float) -> str:
    """In the largest unit that leaves a number of at least 1."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
