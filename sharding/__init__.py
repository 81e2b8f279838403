"""Data plane: passages to partitions to lane streams, and the routing table's storage.

Knows nothing of Ray, DeepSpeed or models.
"""
