"""Every method's gradient at one frozen student, on the same tokens. Knows no trainer."""
