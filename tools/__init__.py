"""What building and testing Queuelet needs, and no user of it."""
