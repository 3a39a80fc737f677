"""`reference.simulate` in torch, on a CPU or a CUDA GPU; imported only where it is asked for."""
