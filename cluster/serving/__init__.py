"""A server's replicas over the nodes of a Ray cluster."""
