"""What is learnt of a teacher: its distributions as they are kept, and the loss against them."""
