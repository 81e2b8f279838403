"""What workers do together: DeepSpeed ZeRO over the experts, and collectives."""
