"""What earlier runs computed of volumes, kept on this machine."""
