"""Settings of every test run here: one thread for the small models' arithmetic.

A second thread only waits on models this small, and under `-n 2` the threads of two workers wait
for each other. A model of the true shapes (QWEN3_MOE_GGUF_PATH, QWEN3_MOE_SHAPE_GGUF_PATH) gets
all the threads there are. Triton's kernels run in its interpreter where there is no NVIDIA device,
which has to be said before anything imports Triton.
"""

import gc
import os

LARGE = ("QWEN3_MOE_GGUF_PATH", "QWEN3_MOE_SHAPE_GGUF_PATH")

if not any(os.environ.get(name) for name in LARGE):
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # of a test that asks for two threads

if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_finish():
    """What was imported lives on: collections, and forked children, leave it alone."""
    gc.collect()
    gc.freeze()
