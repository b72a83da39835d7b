"""Where a study is remembered, and the locks that tell who may change it and who lives: one contract, a module a storage."""
