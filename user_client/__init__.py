"""What a user knows: its data, labels, front and head."""
