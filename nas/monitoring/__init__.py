"""Follows a search: progress, TensorBoard, MLflow."""
