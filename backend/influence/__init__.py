"""Which chunk of a CoT acts on which: three ways to ask it."""
