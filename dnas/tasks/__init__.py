"""What is learnt: data on the device, batches, losses, scores."""
