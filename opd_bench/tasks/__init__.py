"""Problems in, verdicts out: text alone, no tensors."""
