"""Settings of every test run here: one thread for the small models' arithmetic.

A second thread only waits on models this small, and under `-n 2` the threads of two workers wait
for each other. A real model (QWEN3_MOE_GGUF_PATH) gets all the threads there are.
"""

import os

if not os.environ.get("QWEN3_MOE_GGUF_PATH"):
    os.environ.setdefault("OMP_NUM_THREADS", "1")
