"""A mixture of experts as others take it: a PEFT LoRA, or the whole model with it merged in."""
