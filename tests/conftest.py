"""One thread per process, as `make test` has it: several threads on small tensors are many times slower."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
