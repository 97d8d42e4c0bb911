"""An optional accelerator: the forward and backward pass of a float32 Llama on a CPU."""
