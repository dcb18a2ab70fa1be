"""The full cycle, put, handle, acknowledge, through each system's own client: one process puts and one takes."""
