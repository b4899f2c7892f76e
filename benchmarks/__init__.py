"""What a training step costs here, beside other trainers and beside the least that it could cost."""
