"""Pure functions of log-probabilities; torch only. Arguments come as (student, teacher)."""
