"""Network inputs for training and evaluation: views, augmentation, batches, loading in other processes."""
