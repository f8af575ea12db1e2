"""Latent diffusion: the autoencoder, its latents and their diffusion."""
