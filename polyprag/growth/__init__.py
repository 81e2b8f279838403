"""Life after training: new passages join an encoding, and passages leave it."""
