"""Training: the trainer for the chain, its optimizer, its checkpoints, the rate it ends at."""
