"""The small trained model that text is judged by, where no real one is given.

`make distill-demo` made it; what it makes anew is judged in its place, by DISTILL_DEMO_PATH.
"""

import os
from pathlib import Path

EMBEDDED = Path(__file__).parent / "models/student-Q4_K_M.gguf"


def trained_gguf() -> Path:
    """A qwen3moe GGUF whose words can be judged: the real one, the demo's, or the one kept here."""
    demo = os.environ.get("DISTILL_DEMO_PATH")
    made = Path(demo) / "student" / EMBEDDED.name if demo else EMBEDDED
    return Path(os.environ.get("QWEN3_MOE_GGUF_PATH") or made)
