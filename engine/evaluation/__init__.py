"""What a model is worth: problems, sandboxed answers, and scores with intervals."""
