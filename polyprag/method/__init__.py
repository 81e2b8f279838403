"""The method: experts, routing rows, their gates and mixtures, and what they are trained on."""
