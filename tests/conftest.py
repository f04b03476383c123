"""Settings of every test."""

import os

# Small models gain nothing from more threads, and lose much where other programs use the processor. Set before torch
# is imported, and inherited by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
