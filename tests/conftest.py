"""Threads gain nothing on models of this size, and lose much where the cores are busy."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
