"""Images that have targets: reconstructions, translations, super-resolution."""
