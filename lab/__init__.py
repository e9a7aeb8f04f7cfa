"""Where the same scaffold lands in two language models, with error bars."""
