"""Evaluators: one per task, each runs a network on batches of a dataset and computes the task's metrics."""
