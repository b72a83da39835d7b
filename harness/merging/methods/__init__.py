"""How the tensors of one name become one: pure functions on rows, each of which reads its operands as often as it needs them."""
