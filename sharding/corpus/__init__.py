"""A prepared corpus on disk: passages, their shards, and the manifest that names them."""
