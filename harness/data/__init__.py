"""Documents to tokens to rows, the same for everybody: sources, token cache, packing, order, evaluation sets."""
