"""What an encoding will do and take, before a cluster pays for it."""
