"""Parts of `worker_counts.py`: the recipes that are compared, and the processes that train them."""
