"""Trained networks at work: model directories, evaluation, prediction."""
