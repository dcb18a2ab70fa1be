"""Where messages are stored: in memory, or on disk."""
