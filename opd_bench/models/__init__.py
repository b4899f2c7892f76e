"""Student, frozen teacher, tokenizer, and the small models that ship with the package."""
