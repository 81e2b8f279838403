"""The routing rows' Adam: lazy, in place, compiled."""
