"""The diffusion U-Net, and convolutions that are fast on a CPU."""
