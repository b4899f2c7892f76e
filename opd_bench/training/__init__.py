"""The only room that knows Lightning's loop: a step, its data, what is watched, and the run around them."""
