"""The option `routed`: a map from questions to mixtures, with no passage retrieved."""
