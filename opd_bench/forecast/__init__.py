"""What a run would take, before it is run: memory, tokens, FLOPs and hours, from the models' configurations alone."""
