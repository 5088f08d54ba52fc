"""The handlers, one module per noun; each parses, calls one function and answers."""
