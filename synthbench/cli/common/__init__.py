"""What every verb of the command line has: its options, its help, its settings file."""
