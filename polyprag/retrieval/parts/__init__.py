"""The parts of an index on disk, the manifest that names them, and where they lie."""
