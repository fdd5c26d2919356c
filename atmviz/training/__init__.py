"""Recipes, the training loop, evaluation and ablations; each module is imported where it is needed."""
