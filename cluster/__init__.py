"""Ray and DeepSpeed: jobs that run the data plane and the method on many nodes."""
