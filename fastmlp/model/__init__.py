"""The model: its weights, training, predictions, and the plans that kernels execute for it."""
