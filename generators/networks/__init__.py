"""Networks in three dimensions."""
