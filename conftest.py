"""Settings of every test run here: one thread for the small models' arithmetic.

The models of the falsifiers are so small that a second thread only waits, and under `-n 2` the
threads of two workers would wait for each other. Set OMP_NUM_THREADS to choose otherwise.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
