"""Ray: sessions, Ray Train and its workers, tasks on all nodes."""
