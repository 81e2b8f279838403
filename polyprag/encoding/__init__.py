"""The trained artefact in RUN/encoding: expert pool, routing table, config and manifest."""
